"""Every tier that can be trained, in one table: read by `train`, --help and the conformance suite.

A tier is two functions. `fit` takes rows and returns a predictor that is fitted and frozen: there
is no unfitted one (`estimator.Proxy` is the same with scikit-learn's manners). `save` writes it as
a signed artifact that `load_predictor` reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from lengthwise.errors import ConfigError
from lengthwise.proxy.objectives import OBJECTIVES, objective_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from lengthwise.predictors.base import Predictor
    from lengthwise.proxy.answers import Answer

REGRESSION = ("regression",)


class Fit(Protocol):
    """Fits a tier to rows."""

    def __call__(
        self,
        rows: Sequence[Answer],
        *,
        objective: str,
        seed: int,
        on_step: Callable[[str], None],
    ) -> Predictor:
        """Return a fitted predictor. Raises BadInputError where nothing can be learnt."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One way to make a predictor. `needs`: modules that `fit` imports, of the extra `extra`.

    `base_model`: what the fit starts from. `remarks` says, of a fitted model and of rows held out,
    what its card should add. `is_fine_tuned`: an encoder is, for minutes to hours, with checkpoints
    and options of its own, by `proxy.neural.command`; here `fit` and `save` refuse.
    """

    name: str
    summary: str
    fit: Fit
    save: Callable[[Any, Mapping[str, Any], Path], None]
    objectives: tuple[str, ...] = REGRESSION
    base_model: str | None = None
    extra: str | None = None
    needs: tuple[str, ...] = ()
    remarks: Callable[[Any, Sequence[Answer]], dict[str, Any]] = lambda _model, _rows: {}
    is_fine_tuned: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether everything that fitting imports is there."""
        return all(find_spec(module) is not None for module in self.needs)

    def check(self, objective: str) -> None:
        """Raise ConfigError for an objective that this tier does not know."""
        if objective not in self.objectives:
            raise ConfigError.unknown(f"objective of tier {self.name}", objective, self.objectives)


def _fit_cheap(
    rows: Sequence[Answer], *, objective: str, seed: int, on_step: Callable[[str], None]
) -> Predictor:
    from lengthwise.proxy import cheap  # noqa: PLC0415  # tiers are listed without their weight
    from lengthwise.proxy.answers import in_order  # noqa: PLC0415  # idem

    return cheap.fit(in_order(rows), objective=objective_of(objective), seed=seed, on_step=on_step)


def _remarks_cheap(model: Any, _: Sequence[Answer]) -> dict[str, Any]:
    return {"remembered_prompts": 0 if model.recall is None else len(model.recall.keys)}


def _fit_history(
    rows: Sequence[Answer], *, objective: str, seed: int, on_step: Callable[[str], None]
) -> Predictor:
    from lengthwise.proxy import cheap  # noqa: PLC0415  # idem
    from lengthwise.proxy.answers import in_order  # noqa: PLC0415  # idem

    return cheap.fit(
        in_order(rows),
        objective=objective_of(objective),
        with_text=False,
        seed=seed,
        on_step=on_step,
    )


def _save_tuned(model: Any, manifest: Mapping[str, Any], out: Path) -> None:
    from lengthwise.predictors import tuned_file  # noqa: PLC0415  # idem

    tuned_file.save(model, dict(manifest), out)


def _fit_retrieval(
    rows: Sequence[Answer],
    *,
    objective: str,  # noqa: ARG001  # it has one
    seed: int,
    on_step: Callable[[str], None],
) -> Predictor:
    from lengthwise.proxy import retrieval  # noqa: PLC0415  # idem

    return retrieval.fit(rows, seed=seed, on_step=on_step)


def _save_retrieval(model: Any, manifest: Mapping[str, Any], out: Path) -> None:
    from lengthwise.predictors import retrieval  # noqa: PLC0415  # idem

    retrieval.save(model, dict(manifest), out)


def _fit_iterative(
    rows: Sequence[Answer], *, objective: str, seed: int, on_step: Callable[[str], None]
) -> Predictor:
    from lengthwise.proxy import iterative  # noqa: PLC0415  # idem
    from lengthwise.proxy.answers import in_order  # noqa: PLC0415  # idem

    def first(some: Sequence[Answer]) -> Predictor:
        return _fit_cheap(some, objective=objective, seed=seed, on_step=on_step)

    return iterative.fit(in_order(rows), first, seed=seed, on_step=on_step)


def _save_iterative(model: Any, manifest: Mapping[str, Any], out: Path) -> None:
    from lengthwise.predictors import iterative  # noqa: PLC0415  # idem

    iterative.save(model, dict(manifest), out, lambda at: _save_tuned(model.first, {}, at))


def _remarks_iterative(model: Any, held_out: Sequence[Answer]) -> dict[str, Any]:
    from lengthwise.proxy import iterative  # noqa: PLC0415  # idem

    return {
        "reads_text_so_far": model.trees is not None,
        "after": iterative.worth(model, held_out),
        **_remarks_cheap(model.first, held_out),
    }


def _fine_tunes(*_: Any, **__: Any) -> Any:
    """Refuse what only `lengthwise train` does, with checkpoints and options of its own."""
    raise ConfigError(
        "encoders are fine-tuned by `lengthwise train --tier neural` or ssjf, in minutes to hours"
    )


LEARN: dict[str, Any] = {"base_model": "default", "extra": "learn", "needs": ("lightgbm",)}
FINE_TUNED: dict[str, Any] = {
    "extra": "train",
    "needs": ("torch", "transformers", "onnx", "onnxruntime"),
    "fit": _fine_tunes,
    "save": _fine_tunes,
    "is_fine_tuned": True,
}
TIERS: dict[str, Tier] = {
    tier.name: tier
    for tier in (
        Tier(
            name="cheap",
            summary="text, history and the shipped model's score under boosted trees; numpy at "
            "run time",
            fit=_fit_cheap,
            save=_save_tuned,
            objectives=OBJECTIVES,
            remarks=_remarks_cheap,
            **LEARN,
        ),
        Tier(
            name="history",
            summary="the same without any text: sizes and the conversation's earlier answers only",
            fit=_fit_history,
            save=_save_tuned,
            objectives=OBJECTIVES,
            **LEARN,
        ),
        Tier(
            name="neural",
            summary="a fine-tuned text encoder beside the cheap tier; onnxruntime at run time",
            objectives=OBJECTIVES,
            **FINE_TUNED,
        ),
        Tier(
            name="ssjf",
            summary="the SSJF paper's own proxy on any encoder; onnxruntime at run time",
            objectives=("regression", "classes", "ordinal", "quantile"),
            **FINE_TUNED,
        ),
        Tier(
            name="retrieval",
            summary="the lengths that the nearest past prompts' answers had; numpy only",
            fit=_fit_retrieval,
            save=_save_retrieval,
        ),
        Tier(
            name="iterative",
            summary="cheap, and predicted anew every 50 tokens from the text so far (ELIS); its "
            "rows need 'answer'",
            fit=_fit_iterative,
            save=_save_iterative,
            objectives=OBJECTIVES,
            remarks=_remarks_iterative,
            **LEARN,
        ),
    )
}


def find_tier(name: str) -> Tier:
    """Return the tier of that name. Raises ConfigError naming the nearest one."""
    tier = TIERS.get(name)
    if tier is None:
        raise ConfigError.unknown("tier", name, TIERS)
    return tier


def fit_tier(
    tier: Tier,
    rows: Sequence[Answer],
    *,
    objective: str = "regression",
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> Predictor:
    """Fit a tier. Raises ConfigError for an unknown objective, BadInputError for unusable rows."""
    tier.check(objective)
    return tier.fit(rows, objective=objective, seed=seed, on_step=on_step)
