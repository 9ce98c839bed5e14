"""Opening foreign files: every layout the originals write, and nothing that runs."""

from __future__ import annotations

import os
import sys
import zipfile

import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.cli.main import main
from geneface_jax.convert import speech, torch_checkpoint
from tests.geneface_jax.convert.originals import state_dict
from tests.parity.vectors import VECTORS


def test_without_torch_one_sentence_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "model_ckpt_steps_1.ckpt").write_bytes(b"")
    assert main(["import-torch", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "pip install geneface_jax[import]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_which_file_is_meant(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        torch_checkpoint.find(tmp_path / "absent")
    with pytest.raises(InputError, match="neither"):
        torch_checkpoint.find(tmp_path)
    best = tmp_path / "model_ckpt_best.pt"
    best.touch()
    assert torch_checkpoint.find(tmp_path) == best
    for step in (900, 1000, 20):
        (tmp_path / f"model_ckpt_steps_{step}.ckpt").touch()
    assert torch_checkpoint.find(tmp_path).name == "model_ckpt_steps_1000.ckpt"
    assert torch_checkpoint.find(tmp_path, 20).name == "model_ckpt_steps_20.ckpt"
    assert torch_checkpoint.find(best) == best
    with pytest.raises(InputError, match="20, 900, 1000"):
        torch_checkpoint.find(tmp_path, 30)
    with pytest.raises(InputError, match="--step"):
        torch_checkpoint.find(best, 20)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed (it is an extra)")


def tensors(torch, weights, prefix=""):
    return {f"{prefix}{name}": torch.from_numpy(np.array(value)) for name, value in weights.items()}


@pytest.mark.parametrize("zipped", [False, True])
def test_nested_flat_and_compiled_layouts_are_one(torch, tmp_path, zipped):
    weights = state_dict(speech.SYNCNET, base=4)
    nested = {"global_step": 70, "optimizer_states": [{"lr": np.float64(1e-4)}], "state_dict": {"model": tensors(torch, weights)}}
    flat = {"global_step": 70, "state_dict": tensors(torch, weights, "model.")}
    compiled = {"state_dict": {"model": tensors(torch, weights, "_orig_mod.")}}
    for layout in (nested, flat, compiled, tensors(torch, weights)):
        path = tmp_path / "model_ckpt_steps_70.ckpt"
        torch.save(layout, path, _use_new_zipfile_serialization=zipped)
        read = torch_checkpoint.read(path)
        assert read.step == 70 and list(read.networks) == ["model"]
        assert all(np.array_equal(value, weights[name]) for name, value in read.networks["model"].items())
        assert read.networks["model"].keys() == weights.keys()


def test_numbers_of_numpy_1_are_read(torch, tmp_path):
    path = tmp_path / "model_ckpt_steps_1.ckpt"
    torch.save({"lr": np.float64(1e-4), "state_dict": {"model": {"w": torch.ones(1)}}}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert b"numpy._core.multiarray" in content
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert torch_checkpoint.read(path).step == 1


class Evil:
    """Touches a file when a careless reader opens it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_malicious_file_is_refused_and_leaves_no_trace(torch, tmp_path, capsys, zipped):
    source, trace = tmp_path / "source", tmp_path / "trace"
    source.mkdir()
    path = source / "model_ckpt_steps_1.ckpt"
    torch.save({"state_dict": {"model": {"w": torch.ones(1), "evil": Evil(trace)}}}, path, _use_new_zipfile_serialization=zipped)
    torch.load(path, weights_only=False)
    assert trace.exists(), "the file must be dangerous for this test to mean anything"
    trace.rmdir()
    assert main(["import-torch", str(source), str(tmp_path / "out")]) == 2
    assert "mkdir" in capsys.readouterr().err
    assert [item.name for item in tmp_path.iterdir()] == ["source"]


def test_damaged_files_are_refused_in_one_sentence(torch, tmp_path):
    path = tmp_path / "model_ckpt_steps_1.ckpt"
    torch.save({"state_dict": {"model": {"w": torch.ones(1000)}}}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2], b"\x80\x04\x95" + whole):
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            torch_checkpoint.read(path)
        assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
    for content in ([1, 2], {"state_dict": {}}, {"state_dict": {"model": {"w": torch.tensor([float("nan")])}}}):
        torch.save(content, path)
        with pytest.raises(InputError):
            torch_checkpoint.read(path)


STRANGE = {
    "stride 0": lambda torch: torch.zeros(1).expand(100_000, 100_000),
    "sparse": lambda torch: torch.eye(3).to_sparse(),
    "sparse_csr": lambda torch: torch.eye(3).to_sparse_csr(),
    "meta": lambda torch: torch.empty(3, device="meta"),
    "quantized": lambda torch: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
    "complex": lambda torch: torch.ones(2, dtype=torch.complex64),
    "nested": lambda torch: torch.nested.nested_tensor([torch.ones(2)]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", STRANGE)
def test_tensors_without_plain_values_are_refused(torch, tmp_path, kind):
    torch.save({"state_dict": {"model": {"w": STRANGE[kind](torch)}}}, tmp_path / "model_ckpt_steps_1.ckpt")
    with pytest.raises(InputError, match="larger than the file" if kind == "stride 0" else rf"holds model.w .*\({kind}\)"):
        torch_checkpoint.read(tmp_path)


def test_views_and_half_precision_are_read(torch, tmp_path):
    big = torch.arange(6.0).reshape(2, 3)
    weights = {"t": big.T, "part": big[:, 1:], "half": big.half(), "b": big.bfloat16(), "n": torch.tensor(3), "p": torch.nn.Parameter(big)}
    torch.save({"state_dict": {"model": weights}}, tmp_path / "model_ckpt_steps_1.ckpt")
    read = torch_checkpoint.read(tmp_path).networks["model"]
    for name, value in weights.items():
        np.testing.assert_array_equal(read[name], value.detach().float().numpy() if name != "n" else 3)


@pytest.mark.parametrize("zipped", [False, True])
def test_dicts_that_share_their_parts_are_refused(torch, tmp_path, zipped):
    tree = {"w": torch.ones(1)}
    for _ in range(24):
        tree = {"a": tree, "b": tree}
    torch.save({"state_dict": {"model": tree}}, tmp_path / "model_ckpt_steps_1.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="contains more than 1,000,000 items"):
        torch_checkpoint.read(tmp_path)


def test_a_compressed_archive_and_a_key_that_is_no_text_are_refused(torch, tmp_path):
    path = tmp_path / "model_ckpt_steps_1.ckpt"
    torch.save({"state_dict": {"model": {"w": torch.zeros(1_000_000)}}}, path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match="contains compressed parts"):
        torch_checkpoint.read(path)
    torch.save({"state_dict": {("a", "b"): torch.ones(1)}}, path)
    with pytest.raises(InputError, match="contains a tuple as a key"):
        torch_checkpoint.read(path)


def test_a_step_is_a_number_of_updates(torch, tmp_path):
    path = tmp_path / "model_ckpt_steps_70.ckpt"
    for step in (True, -5, 10**30, "5"):
        torch.save({"global_step": step, "state_dict": {"model": {"w": torch.ones(1)}}}, path)
        assert torch_checkpoint.read(path).step == 70


def levels(part, item):
    """Ten levels of nine aliases each."""
    return f"a0: &a0 {part}\n" + "".join(f"a{i}: &a{i} {item(i - 1)}\n" for i in range(1, 10))


YAML_BOMBS = {
    "more than 100000 values": levels("[x]", lambda i: f"[{','.join([f'*a{i}'] * 9)}]"),
    "more than 100000 values, merged": levels("{x: 1}", lambda i: f"{{<<: [{','.join([f'*a{i}'] * 9)}]}}"),
    "contains itself": "a: &a [*a]",
    "recursion": "a: " + "[" * 3000,
    "characters": "a: 1" + ":1" * 200_000,
    "4001 characters": "a: " + "9" * 4001,
    "month must be": "when: 2001-99-99",
    "more than 1 MiB": "a: b\n" * 300_000,
}


@pytest.mark.parametrize("reason", YAML_BOMBS)
def test_a_config_of_a_stranger_takes_little_time(tmp_path, reason):
    (tmp_path / "config.yaml").write_text(YAML_BOMBS[reason])
    with pytest.raises(InputError, match=rf"not a config in YAML \(.*{reason.partition(',')[0]}"):
        torch_checkpoint.read_hparams(tmp_path / "config.yaml")


def test_aliases_and_odd_numbers_of_a_config_are_read(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "a: &id001 [1, 2]\nb: *id001\nlr: 1e-8\nsteps: 25_0000\nhuge: 1" + "0" * 400 + "\nmuch: .inf\nno: .nan\n"
    )
    hparams = torch_checkpoint.read_hparams(tmp_path / "config.yaml")
    assert (
        hparams["b"] == [1, 2] and torch_checkpoint.number(hparams, "lr") == 1e-8 and torch_checkpoint.number(hparams, "steps") == 250_000
    )
    assert [torch_checkpoint.number(hparams, key) for key in ("huge", "much", "no", "a", "absent")] == [None] * 5
    assert torch_checkpoint.read_hparams(tmp_path / "none.yaml") == {}


@pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no golden vectors in {VECTORS} (set GENEFACE_PARITY)")
def test_a_file_of_the_originals_trainer(torch, tmp_path):
    from geneface_jax.io import checkpoints

    assert main(["import-torch", str(VECTORS / "ckpt_fixture"), str(tmp_path / "postnet"), "--step", "6000"]) == 0
    read = checkpoints.load(tmp_path / "postnet")
    assert read.step == 6000 and set(read.state["params"]) == {"postnet", "discriminator"}
    with np.load(VECTORS / "v1_postnet" / "weights_generator.npz") as weights:
        recorded = weights["block3.1.weight"].astype(np.float32)
    np.testing.assert_array_equal(read.state["params"]["postnet"]["output"]["kernel"], recorded.transpose(2, 1, 0))
