"""From JSON to what a predictor looks at: lenient with requests, strict with rows."""

from __future__ import annotations

import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lengthwise.errors import BadInputError
from lengthwise.predictors import rows
from lengthwise.predictors.base import Message, Prompt
from lengthwise.predictors.rows import lines_of, prompt_of, prompts_of

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "type", "tool_calls", "function"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def test_a_plain_prompt_is_one_user_message():
    """Completions and chat look alike to a predictor."""
    assert prompt_of({"prompt": "Hi", "max_tokens": 9, "model": "m"}) == Prompt.of(
        "Hi", model="m", max_tokens=9
    )


def test_text_parts_are_joined_and_others_left_out():
    """An image has no text, and does not get in the way of it."""
    parts = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {"url": "data:"}},
        {"type": "text", "text": "this?"},
    ]
    body = {"messages": [{"role": "user", "content": parts}]}
    assert prompt_of(body).messages == (Message("user", "What is\nthis?"),)


def test_tool_calls_stand_in_for_an_answer_without_content():
    """What the model wrote as arguments is what it wrote."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    body = {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    assert prompt_of(body).messages == (Message("assistant", '{"a": 1}'),)


def test_a_batch_of_prompts_is_read_by_its_first_and_token_ids_as_nothing():
    """Both are allowed by the completions API."""
    assert prompt_of({"prompt": ["one", "two"]}) == Prompt.of("one")
    assert prompt_of({"prompt": [1, 2, 3]}) == Prompt.of("")
    assert prompt_of({"prompt": []}) == Prompt.of("")


@pytest.mark.parametrize("cap", [0, -3, True, "9", 2.5, None])
def test_a_cap_that_is_no_positive_integer_counts_as_none(cap):
    """The gateway answers for the type; a prediction does not fail over it."""
    assert prompt_of({"prompt": "Hi", "max_tokens": cap}).max_tokens is None


def test_the_newer_name_of_the_cap_goes_first():
    """OpenAI deprecated max_tokens for chat."""
    assert prompt_of({"prompt": "", "max_tokens": 9, "max_completion_tokens": 5}).max_tokens == 5


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("messages", "prompt", "model", "max_tokens"), anything)
    )
)
def test_no_request_body_makes_it_raise(body):
    """Whatever JSON a client sends, there is a prompt to look at."""
    assert isinstance(prompt_of(body), Prompt)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\n", "blank"),
        (b"{\n", "not JSON"),
        (b'{"prompt": "\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a list"),
        (b"3", "not a number"),
        (b"{}", "one of them"),
        (b'{"prompt": "a", "messages": []}', "not both"),
        (b'{"prompt": 3}', "'prompt' must be text, not a number"),
        (b'{"messages": []}', "at least one message"),
        (b'{"messages": "a"}', "list of at least one message"),
        (b'{"messages": ["a"]}', r"messages\[0\] must be an object, not text"),
        (b'{"messages": [{"content": "a"}]}', "needs a 'role'"),
        (b'{"messages": [{"role": "user", "content": {}}]}', "'content' must be text"),
        (b'{"prompt": "a", "max_tokens": 0}', "positive integer, not 0"),
        (b'{"prompt": "a", "model": 4}', "'model' must be text"),
    ],
)
def test_a_bad_row_is_named_by_line_and_reason(line, reason):
    """The rows before it are read, and the error says where to look."""
    read = prompts_of([b'{"prompt": "good"}\n', line])
    assert next(read) == Prompt.of("good")
    with pytest.raises(BadInputError, match=f"line 2: .*{reason}"):
        next(read)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(monkeypatch):
    """The limit is on the line, not on the file."""
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 50)
    stream = io.BytesIO(b'{"prompt": "fine"}\n' * 9 + b'{"prompt": "' + b"x" * 80)
    read = prompts_of(lines_of(stream))
    assert [next(read) for _ in range(9)] == [Prompt.of("fine")] * 9
    with pytest.raises(BadInputError, match="line 10: longer than 50 bytes"):
        next(read)
