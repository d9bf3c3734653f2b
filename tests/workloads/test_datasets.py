"""Readers of prompts: what they take, what they refuse, and how the mixture is made."""

import json
from collections import Counter

import pytest

from lengthwise.errors import BadInputError, ConfigError
from lengthwise.workloads.datasets import (
    Dataset,
    Sample,
    draw_samples,
    fitting,
    half_of,
    load_dataset,
    read_jsonl,
    read_mixture,
    read_sharegpt,
    spread_samples,
)


def _write(tmp_path, text):
    path = tmp_path / "rows.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_mixture_has_enough_prompts_of_every_kind():
    """At least 220 prompts, each its own, of all the kinds that the docs name."""
    samples = read_mixture().samples
    kinds = Counter(sample.kind for sample in samples)
    assert len(samples) >= 220
    assert len({sample.id for sample in samples}) == len(samples)
    assert len({sample.text for sample in samples}) == len(samples)
    wanted = {
        "fact", "yesno", "sentiment", "topic", "extraction", "translation", "arithmetic",
        "rewrite", "definition", "list", "code", "explain", "story", "multiturn",
    }  # fmt: skip
    assert wanted <= set(kinds)
    assert min(kinds.values()) >= 5


def test_the_mixture_is_well_formed():
    """Conversations end with the user, and the multi-turn ones hold an earlier answer."""
    for sample in read_mixture().samples:
        roles = [role for role, _ in sample.messages]
        assert roles[-1] == "user"
        assert all(content.strip() == content and content for _, content in sample.messages)
        assert ("assistant" in roles) == (sample.kind == "multiturn")


def test_no_phrase_opens_a_tenth_of_the_mixture():
    """The prompts are not one template: no three opening words are shared by a tenth of them."""
    samples = read_mixture().samples
    openings = Counter(" ".join(sample.messages[-1][1].lower().split()[:3]) for sample in samples)
    assert max(openings.values()) < len(samples) / 10


def test_the_hash_cuts_the_mixture_into_balanced_halves():
    """Seen and unseen both hold 40 to 60 % of the prompts, and of the large kinds some."""
    samples = read_mixture().samples
    seen = sum(half_of(sample.text) == "seen" for sample in samples)
    assert 0.4 <= seen / len(samples) <= 0.6
    for kind in ("story", "code", "fact", "list"):
        assert {half_of(s.text) for s in samples if s.kind == kind} == {"seen", "unseen"}


def test_a_prompts_half_never_changes():
    """The half is a function of the text alone; these are pinned."""
    assert [half_of(text) for text in ("a", "b", "hello", "")] == [
        "unseen" if int(digest, 16) % 2 else "seen" for digest in ("0c", "92", "5d", "d4")
    ]


def test_jsonl_takes_prompts_and_messages(tmp_path):
    """Both spellings are read, with ids, caps and known lengths; blank lines are skipped."""
    rows = [
        {"prompt": "hi", "max_tokens": 5, "output_tokens": 3},
        {"id": "x", "kind": "chat", "messages": [{"role": "user", "content": "hello"}]},
    ]
    path = _write(tmp_path, "\n\n".join(json.dumps(row) for row in rows) + "\n")
    first, second = read_jsonl(path).samples
    assert (first.id, first.text, first.max_tokens, first.output_tokens) == ("1", "hi", 5, 3)
    assert (second.id, second.kind, second.messages) == ("x", "chat", (("user", "hello"),))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "must be an object"),
        ("{}", "either"),
        ('{"prompt": "a", "messages": []}', "either"),
        ('{"prompt": ""}', "non-empty"),
        ('{"prompt": 3}', "non-empty"),
        ('{"messages": []}', "non-empty list"),
        ('{"messages": [{"role": "user"}]}', "role and a content"),
        ('{"messages": [{"role": "user", "content": ["part"]}]}', "role and a content"),
        ('{"prompt": "a", "max_tokens": 0}', "max_tokens must be a positive integer, not 0"),
        ('{"prompt": "a", "output_tokens": true}', "output_tokens must be"),
        ('{"prompt": "a", "output_tokens": 1.5}', "output_tokens must be"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_reason(tmp_path, row, reason):
    """The error says which file, which line, and what is wrong with it."""
    path = _write(tmp_path, '{"prompt": "fine"}\n' + row + "\n")
    with pytest.raises(BadInputError, match=reason) as caught:
        read_jsonl(path)
    assert f"{path}, line 2: " in str(caught.value)


@pytest.mark.parametrize("reader", [read_jsonl, read_sharegpt])
def test_files_that_are_absent_empty_or_not_text_are_refused(tmp_path, reader):
    """A missing, an empty and a binary file are BadInputErrors, not tracebacks."""
    with pytest.raises(BadInputError, match="absent"):
        reader(tmp_path / "absent")
    with pytest.raises(BadInputError):
        reader(_write(tmp_path, ""))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInputError, match="binary"):
        reader(tmp_path / "binary")


def _conversation(text, who="human"):
    return {
        "id": text,
        "conversations": [{"from": "gpt", "value": "-"}, {"from": who, "value": text}],
    }


def test_sharegpt_gives_the_first_human_turns(tmp_path):
    """The first human turn of each conversation, whatever stands before; those without: a note."""
    entries = [_conversation("one"), {"id": "e", "conversations": []}, _conversation("two", "user")]
    dataset = read_sharegpt(_write(tmp_path, json.dumps(entries)))
    assert [sample.text for sample in dataset.samples] == ["one", "two"]
    assert "1 conversations have no human turn" in dataset.notes[0]


def test_a_sharegpt_file_that_breaks_off_gives_what_is_whole_and_says_so(tmp_path):
    """Every cut after the first entry gives the whole entries before it, with a note."""
    text = json.dumps([_conversation("one"), _conversation("two"), _conversation("three")])
    cut = text.index('"three"') + 2
    dataset = read_sharegpt(_write(tmp_path, text[:cut]))
    assert [sample.text for sample in dataset.samples] == ["one", "two"]
    assert dataset.notes == ("the file breaks off after entry 2: the whole entries are used",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1}', "starts with"),
        ("[nonsense", "entry 1: not JSON"),
        ("[]", "no conversation"),
        ('[{"id": 1}]', "entry 1: no list of conversations"),
        ('[{"conversations": []}]', "no conversation with a human turn"),
    ],
)
def test_a_file_that_is_not_sharegpt_is_refused(tmp_path, text, reason):
    """Other JSON is an error that says what was expected."""
    with pytest.raises(BadInputError, match=reason):
        read_sharegpt(_write(tmp_path, text))


def test_data_sets_are_found_by_name(tmp_path):
    """A wrong name names the nearest; files need a path and the mixture takes none."""
    with pytest.raises(ConfigError, match="did you mean 'sharegpt'"):
        load_dataset("sharegtp")
    with pytest.raises(ConfigError, match="--dataset-path"):
        load_dataset("jsonl")
    with pytest.raises(ConfigError, match="built in"):
        load_dataset("mixture", tmp_path)
    assert load_dataset("jsonl", _write(tmp_path, '{"prompt": "a"}')).samples[0].text == "a"


def test_every_prompt_is_drawn_once_before_any_is_drawn_again():
    """Draws are shuffles end to end, the same for the same seed."""
    samples = read_mixture().samples
    drawn = draw_samples(samples, len(samples) + 5, seed=1)
    assert {sample.id for sample in drawn[: len(samples)]} == {sample.id for sample in samples}
    assert drawn == draw_samples(samples, len(samples) + 5, seed=1)
    assert drawn[:20] != draw_samples(samples, 20, seed=2)
    with pytest.raises(BadInputError):
        draw_samples([], 1, seed=0)


def test_prompts_that_may_not_fit_are_left_out_and_counted():
    """ASCII counts 2.5 characters a token, every other byte one; the note says how many went."""
    texts = ("a" * 250, "a" * 251, "\u00e9" * 50, "\u00e9" * 51)
    samples = tuple(Sample(id=str(i), messages=(("user", text),)) for i, text in enumerate(texts))
    dataset = fitting(Dataset(name="d", samples=samples), context_tokens=100)
    assert [sample.id for sample in dataset.samples] == ["0", "2"]
    assert dataset.notes == ("2 prompts may not fit into 100 tokens and were left out",)
    assert fitting(dataset, context_tokens=100) is dataset
    with pytest.raises(BadInputError, match="no prompt fits"):
        fitting(dataset, context_tokens=1)


def test_a_spread_draw_takes_of_each_kind_its_share():
    """With one in three drawn, every kind has a third of its prompts in, give or take one."""
    samples = read_mixture().samples
    drawn = spread_samples(samples, len(samples) // 3, seed=1)
    assert len({sample.id for sample in drawn}) == len(samples) // 3
    counts, all_counts = (Counter(s.kind for s in group) for group in (drawn, samples))
    assert all(abs(counts[kind] - all_counts[kind] / 3) <= 1 for kind in all_counts)
    assert len(spread_samples(samples, 10_000, seed=1)) == len(samples)
