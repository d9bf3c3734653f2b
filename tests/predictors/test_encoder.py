"""The neural tier reads its artifact as data, and one request as text."""

from __future__ import annotations

import math
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lengthwise.errors import ArtifactError, MissingExtraError
from lengthwise.predictors import artifact, encoder, load_predictor, neural
from lengthwise.predictors.base import Message, Prompt
from lengthwise.predictors.encoder import Window
from lengthwise.predictors.onnx_file import refuse_external_data

GOOD = {"kind": "encoder", "spread": [-1.0, 0.0, 1.0], "max_tokens": 64}


def written(directory, manifest=None, **files):
    """Write an artifact whose graph takes the number of tokens for the log-length."""
    contents = {encoder.GRAPH: graph(), encoder.TOKENIZER: tokenizer()}
    artifact.save_files(directory, manifest or GOOD, contents | files)
    return directory


def graph():
    """Build the graph: log-length = tokens of the attention mask."""
    onnx = pytest.importorskip("onnx")
    make, kind = onnx.helper, onnx.TensorProto
    nodes = [
        make.make_node("Cast", ["attention_mask"], ["mask"], to=kind.FLOAT),
        make.make_node("ReduceSum", ["mask"], ["log_length"], keepdims=0),
    ]
    shape = [1, "tokens"]
    inputs = [
        make.make_tensor_value_info(name, kind.INT64, shape)
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [make.make_tensor_value_info("log_length", kind.FLOAT, [])]
    built = make.make_graph(nodes, "count", inputs, outputs)
    model = make.make_model(built, opset_imports=[make.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def tokenizer():
    """Build a tokenizer of words, all unknown."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))  # noqa: S106
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return made.to_str().encode()


def test_a_graph_s_log_length_is_spread(tmp_path):
    """Three words give exp(3), and the spread lies around it."""
    pytest.importorskip("onnxruntime")
    loaded = neural.load(written(tmp_path), name="mine")
    assert loaded.predict(Prompt.of("one two three")).lengths == pytest.approx(
        [math.exp(2), math.exp(3), math.exp(4)]
    )


def test_long_text_is_cut_to_the_artifact_s_tokens(tmp_path):
    """Ten tokens at most are read where the artifact says ten."""
    pytest.importorskip("onnxruntime")
    loaded = neural.load(written(tmp_path, GOOD | {"max_tokens": 10}), name="mine")
    assert loaded.predict(Prompt.of("word " * 50)).lengths[1] == pytest.approx(math.exp(10))


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"kind": "stack"}, "not an encoder"),
        ({"spread": [1.0, 0.0]}, "ascend"),
        ({"spread": []}, "ascend"),
        ({"max_tokens": 100_000}, "max_tokens"),
        ({"head_tokens": 65}, "head_tokens"),
        ({"weights": [1.0, 2.0]}, "three weights"),
        ({"weights": [0.0, "1", 0.0]}, "weights must be finite numbers"),
        ({"knots": {"at": [1.0, 0.0], "log_tokens": [1.0, 2.0]}}, "knots"),
        ({"spread_at": [0.0], "spread": [[1.0, 0.0]]}, "ascend"),
        ({"spread_at": [0.0], "spread": [[1.0], [2.0, 3.0]]}, "spread must be finite"),
        ({"models": [1]}, "models"),
        ({"model_levels": {"a": None}}, "model_levels"),
    ],
)
def test_an_unsound_manifest_is_refused(tmp_path, manifest, said):
    """What is wrong is named, before any library reads the graph."""
    contents = {encoder.GRAPH: b"", encoder.TOKENIZER: b"{}"}
    artifact.save_files(tmp_path, GOOD | manifest, contents)
    with pytest.raises(ArtifactError, match=said):
        neural.load(tmp_path, name="mine")


def test_a_changed_graph_is_refused(tmp_path):
    """A graph that is not the one that was signed is named."""
    artifact.save_files(tmp_path, GOOD, {encoder.GRAPH: b"", encoder.TOKENIZER: b"{}"})
    (tmp_path / encoder.GRAPH).write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"model\.onnx: its SHA-256"):
        neural.load(tmp_path, name="mine")


def test_a_graph_that_keeps_weights_in_another_file_is_refused_before_it_is_opened(
    tmp_path, monkeypatch
):
    """onnxruntime reads the path that the graph names; here it is not asked."""  # noqa: D403
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    make, kind = onnx.helper, onnx.TensorProto
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.array([7.0], dtype="<f4").tobytes())
    tensor = make.make_tensor("stolen", kind.FLOAT, [1], b"\0" * 4, raw=True)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=secret.name)
    model = onnx.load_model_from_string(graph())
    model.graph.initializer.append(tensor)
    model.graph.node.append(make.make_node("Add", ["log_length", "stolen"], ["sum"]))
    model.graph.output[0].CopyFrom(make.make_tensor_value_info("sum", kind.FLOAT, [1]))
    content = model.SerializeToString()
    monkeypatch.chdir(tmp_path)
    assert opened_by_onnxruntime(content) == [10.0]  # so the danger is real
    written(tmp_path / "m", **{encoder.GRAPH: content})
    with pytest.raises(ArtifactError, match="'stolen' lies in another file"):
        neural.load(tmp_path / "m", name="mine")


def opened_by_onnxruntime(content):
    """Run a graph on three tokens, as a loader that does not look would."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    ones = np.ones((1, 3), dtype=np.int64)
    taken = {one.name: ones for one in session.get_inputs()}
    return session.run(None, taken)[0].reshape(-1).tolist()


def test_external_tensors_are_found_wherever_they_hide():
    """In a constant's attribute, in the branch of an If, in a function: each is named."""
    onnx = pytest.importorskip("onnx")
    make, kind = onnx.helper, onnx.TensorProto
    tensor = make.make_tensor("hidden", kind.FLOAT, [1], [1.0])
    constant = make.make_node("Constant", [], ["c"], value=tensor)
    inner = make.make_graph([constant], "inner", [], [])
    branch = make.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    opsets = [make.make_opsetid("", 17)]
    function = make.make_function("mine", "f", [], ["c"], [constant], opsets)
    for model in (
        make.make_model(make.make_graph([constant], "g", [], [])),
        make.make_model(make.make_graph([branch], "g", [], [])),
        make.make_model(make.make_graph([], "g", [], []), functions=[function]),
    ):
        refuse_external_data(model.SerializeToString(), "fine")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    constant = make.make_node("Constant", [], ["c"], value=tensor)
    inner = make.make_graph([constant], "inner", [], [])
    branch = make.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    function = make.make_function("mine", "f", [], ["c"], [constant], opsets)
    for model in (
        make.make_model(make.make_graph([constant], "g", [], [])),
        make.make_model(make.make_graph([branch], "g", [], [])),
        make.make_model(make.make_graph([], "g", [], []), functions=[function]),
    ):
        with pytest.raises(ArtifactError, match="'hidden' lies in another file"):
            refuse_external_data(model.SerializeToString(), "bad")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(content):
    """Whatever a file holds, searching it ends, in nothing worse than the error that we drew."""
    with suppress(ArtifactError):
        refuse_external_data(content, "some.onnx")


def test_of_a_long_text_head_and_tail_are_read():
    """Tokens 1 2 of the head and the last three, where five are read and two are of the head."""
    loaded = tokenizers_of_numbers()
    window = Window(max_tokens=8, head_tokens=2)
    text = " ".join(str(n) for n in range(1, 30))
    assert window.ids_of(loaded, Prompt.of(text)) == [1, 2, 24, 25, 26, 27, 28, 29]
    assert window.ids_of(loaded, Prompt.of("")) == [0]


def tokenizers_of_numbers():
    """Build a tokenizer whose ids are the numbers that it reads."""
    tokenizers = pytest.importorskip("tokenizers")
    words = {"?": 0, **{str(n): n for n in range(1, 100)}}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="?"))  # noqa: S106
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return made


def test_a_whole_conversation_is_written_out_as_the_paper_does():
    """Speakers in brackets, a line each; of ten megabytes the head and the tail."""
    turns = (Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Go"))
    said = encoder.conversation_of(turns, 100)
    assert said == "[USER]: Hi\n[ASSISTANT]: Yes?\n[USER]: Go\n"
    long = (Message("user", "a" * 10_000_000), *turns, Message("user", "z" * 10_000_000))
    said = encoder.conversation_of(long, 100)
    assert said.startswith("[USER]: aaa")
    assert said.endswith("zzz\n")
    assert len(said) == 201


def test_an_unknown_model_is_a_bit_of_each():
    """The one-hot of a model that training knew, and the mean of all for another."""
    assert encoder.one_hot(("a", "b"), "b").tolist() == [0, 1]
    assert encoder.one_hot(("a", "b"), "new").tolist() == [0.5, 0.5]


def test_one_thread_serves_one_request(tmp_path):
    """Beside a busy engine more threads only wait for each other."""
    pytest.importorskip("onnxruntime")
    options = neural.load(written(tmp_path), name="mine").encoder.session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_the_last_user_message_is_read_head_and_tail():
    """Two thousand characters at most, of the last message that a user wrote."""
    long = "a" * 5_000 + "z" * 700
    turns = (Message("user", "first"), Message("assistant", "x"), Message("user", long))
    read = encoder.text_of(Prompt(messages=turns))
    assert read == "a" * encoder.HEAD_CHARS + " " + "z" * encoder.TAIL_CHARS


def test_without_the_extra_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    """A neural artifact needs onnxruntime and tokenizers, and says how to get them."""
    artifact.save_files(tmp_path, GOOD, {encoder.GRAPH: b"", encoder.TOKENIZER: b"{}"})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"lengthwise\[proxy\]"):
        load_predictor(str(tmp_path))
