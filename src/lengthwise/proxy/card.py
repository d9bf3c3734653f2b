"""The card of a trained model: what it learnt from, how it was split, what it is worth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lengthwise import __version__

if TYPE_CHECKING:
    from pathlib import Path

CARD = "card.json"
README = "README.md"
_SHOWN = (
    ("kendall_tau", "Kendall tau"),
    ("spearman", "Spearman"),
    ("pairwise_accuracy", "pairs in order"),
    ("gap_closed_0.7", "share of oracle SJF's gain at load 0.7"),
    ("gap_closed_0.9", "share of oracle SJF's gain at load 0.9"),
    ("mae_tokens", "mean absolute error (tokens)"),
    ("coverage_p50", "answers within the predicted p50"),
    ("coverage_p90", "answers within the predicted p90"),
    ("latency_us_p50", "one prediction, median (us)"),
    ("latency_us_p99", "one prediction, p99 (us)"),
    ("model_bytes", "size (bytes)"),
)


def write(directory: Path, card: dict[str, Any]) -> None:
    """Write the card as JSON and as Markdown."""
    whole = {"lengthwise_version": __version__, **card}
    (directory / CARD).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    laid_out = markdown_of_log(whole) if "newest_fifth" in card else markdown(whole)
    (directory / README).write_text(laid_out, encoding="utf-8")


def read(directory: Path) -> dict[str, Any] | None:
    """Return a model's card, None if it has none that can be read."""
    try:
        card = json.loads((directory / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return card if isinstance(card, dict) else None


def markdown(card: dict[str, Any]) -> str:
    """Lay the card out for people."""
    data, metrics = card["data"], card["metrics"]
    lines = [
        f"# A length predictor: tier {card['tier']}, objective {card['objective']}",
        "",
        (
            f"Trained by Lengthwise {card['lengthwise_version']} on {card['created']}, seed "
            f"{card['seed']}."
        ),
        "",
        "    lengthwise serve --predictor DIR",
        "    lengthwise evaluate --predictor DIR --dataset-path rows.jsonl",
        "",
        "## Data",
        "",
        (
            f"- {data['rows']:,} answers from `{data['source']}` (SHA-256 `{data['sha256']}`), "
            f"{data['skipped']:,} rows skipped."
        ),
        (
            f"- {data['cut_rows']:,} answers were cut off: known to be longer than they are, and "
            "counted so."
        ),
        *(f"- {note}." for note in data["notes"]),
        _split_line(card),
        *_training_lines(card),
        "",
        "## On the test rows",
        "",
    ]
    if metrics is None:
        return "\n".join([*lines, "Too few of them to say anything.", ""])
    lines += ["| figure | value | 95 % interval |", "| --- | ---: | ---: |"]
    for key, title in _SHOWN:
        value, ends = metrics.get(key), metrics.get(f"{key}_interval")
        if value is not None:
            shown = "" if ends is None else f"{ends[0]:,.4g} to {ends[1]:,.4g}"
            lines.append(f"| {title} | {value:,.4g} | {shown} |")
    return "\n".join([*lines, *_after(card), ""])


def markdown_of_log(card: dict[str, Any]) -> str:
    """Lay out the card of a model that was learnt from a request log."""
    data = card["data"]
    lines = [
        "# A length predictor: tier cheap, learnt from a request log",
        "",
        f"Trained by Lengthwise {card['lengthwise_version']} on {card['created']}.",
        "",
        "    lengthwise serve --predictor DIR",
        "",
        "## Data",
        "",
        f"- The newest {data['rows']:,} answers of `{data['model']}` in `{data['source']}`.",
        (
            f"- {data['cut_rows']:,} answers were cut off: known to be longer than they are, and "
            "counted so."
        ),
        *_remembered_line(card),
        "",
        "## On the newest fifth",
        "",
        "Each half of it predicted by a fit to all other rows, and by what served at the time;",
        "loss: the pinball loss of the log of p50 and p90, smaller is better.",
        "",
        "| | Kendall tau | loss |",
        "| --- | ---: | ---: |",
    ]
    for name, title in (("fitted", "this model"), ("served", "what served")):
        score = card["newest_fifth"][name]
        tau, loss = ("-" if one is None else f"{one:.3f}" for one in (score["tau"], score["loss"]))
        lines.append(f"| {title} | {tau} | {loss} |")
    return "\n".join([*lines, ""])


def _remembered_line(card: dict[str, Any]) -> list[str]:
    if not card.get("remembered_prompts"):
        return []
    known = f"- It knows {card['remembered_prompts']:,} prompts again, by their hashes: "
    return [known + "who has a prompt can tell whether it was among them."]


def _after(card: dict[str, Any]) -> list[str]:
    """Say what the text so far was worth, of a model that predicts again while answers come."""
    if "after" not in card:
        return []
    if not card["reads_text_so_far"]:
        return [
            "",
            "Too few rows had the text of their answer (`answer`): while an answer comes, only its",
            "length so far is conditioned on.",
        ]
    lines = ["", "While the answer is written, error of the rest in tokens (mean absolute):", ""]
    lines += ["| tokens written | test rows | by length alone | with the text | p90 covers |"]
    lines += ["| ---: | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {at['attained']} | {at['rows']:,} | {at['mae_conditioned']:.1f} | {at['mae']:.1f} | "
        f"{100 * at['coverage_p90']:.1f} % |"
        for at in card["after"]
    ]
    return lines


def _split_line(card: dict[str, Any]) -> str:
    split = card["split"]
    if "training" in card:
        return (
            f"- Split by the first prompt: {split['train']:,} train rows were fitted to, "
            f"{split['validation']:,} validation rows calibrated on, {split['test']:,} test rows "
            "only measured on."
        )
    return (
        f"- Split by the first prompt: {split['train']:,} train and {split['validation']:,} "
        f"validation rows were fitted to, {split['test']:,} test rows were not."
    )


def _training_lines(card: dict[str, Any]) -> list[str]:
    lines = _remembered_line(card)
    if "teacher" in card:
        told = card["teacher"]
        lines.append(f"- {told['lessons']:,} more prompts as the model `{told['name']}` says.")
    if "training" in card:
        one = card["training"]
        losses = ", ".join(f"{loss:.4f}" for loss in one["losses"])
        lines += [
            "",
            "## Training",
            "",
            (
                f"- From `{card['base_model']}`: {one['epochs']} epochs in batches of "
                f"{one['batch_size']}, learning rate {one['learning_rate']:g}, at most "
                f"{one['max_length']} tokens; loss by epoch {losses}."
            ),
        ]
    return lines
