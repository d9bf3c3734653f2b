"""`lengthwise train --from-log`: a model from a gateway's request log, which need hold no text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from lengthwise.errors import BadInputError, ConfigError
from lengthwise.predictors import request_log, tuned_file
from lengthwise.predictors.shipped import features_version, shipped
from lengthwise.proxy import card
from lengthwise.proxy.learner import refit
from lengthwise.proxy.publish import check_output, published

if TYPE_CHECKING:
    from pathlib import Path

#: Rows read at most: the newest; older traffic says little of today's.
NEWEST_ROWS = 20_000


def train_from_log(log: Path, output: Path, *, model: str | None = None) -> dict[str, Any]:
    """Fit to a served model's rows (the one with most rows if none is named) and publish.

    Each half of the newest fifth is predicted by a fit to all the rest, and set beside what served
    at the time; the published model is fitted to all. Raises BadInputError or ConfigError.
    """
    check_output(output)
    models = request_log.models_in_log(log)
    if not models:
        raise BadInputError(f"{log}: the log holds no rows")
    chosen = model or next(iter(models))
    if chosen not in models:
        raise ConfigError.unknown("model in this log", chosen, models)
    base = shipped()
    version = features_version(base)
    rows = request_log.rows_from_log(log, model=chosen, version=version, newest=NEWEST_ROWS)
    if not len(rows.ids):
        raise BadInputError(
            f"{log}: none of the {models[chosen]} rows of {chosen} has features of this release"
        )
    try:
        verdict = refit(rows, base)
    except BadInputError as error:
        at = f"{log}, {len(rows.ids)} rows of {chosen}, of which the newest fifth is held out"
        raise BadInputError(f"{at}: {error}") from None
    figures = {
        name: {k: v if np.isfinite(v) else None for k, v in vars(score).items()}
        for name, score in (("fitted", verdict.candidate), ("served", verdict.serving))
    }
    manifest = {
        "model": chosen,
        "rows": verdict.rows,
        "censored_rows": int(rows.censored.sum()),
        "last_row_id": int(rows.ids[-1]),
        "on_newest_rows": figures,
    }
    recall = verdict.fitted.recall
    about = {
        "tier": "cheap",
        "objective": "regression",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": {
            "source": log.name,
            "model": chosen,
            "rows": verdict.rows,
            "cut_rows": int(rows.censored.sum()),
        },
        "remembered_prompts": 0 if recall is None else len(recall.keys),
        "newest_fifth": figures,
    }
    with published(output) as partial:
        tuned_file.save(verdict.fitted, manifest, partial)
        card.write(partial, about)
    click.echo(
        f"{output}: {verdict.rows} rows of {chosen}; on the newest fifth tau "
        f"{verdict.candidate.tau:.3f}, what served {verdict.serving.tau:.3f}",
        err=True,
    )
    return manifest
