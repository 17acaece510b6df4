from pathlib import Path

import pytest

from yoloperf.core.errors import UserError
from yoloperf.core.platforms import ARITHMETIC, card_for, cards, read_card

# what nvidia-smi and torch.cuda.get_device_name print -> the card's name
NAMES = {
    "Tesla T4": "Tesla T4",
    "NVIDIA T4": "Tesla T4",
    "Tesla P40": "Tesla P40",
    "Tesla P100-PCIE-16GB": "Tesla P100 PCIe 16 GB",
    "Tesla P100-SXM2-16GB": "Tesla P100 SXM2",
    "Tesla V100-PCIE-32GB": "Tesla V100 PCIe",
    "Tesla V100-SXM2-16GB": "Tesla V100 SXM2",
    "NVIDIA A100-SXM4-40GB": "A100 SXM4 40 GB",
    "A100-SXM4-40GB": "A100 SXM4 40 GB",
    "NVIDIA A100-SXM4-80GB": "A100 SXM4 80 GB",
    "NVIDIA A100-PCIE-40GB": "A100 PCIe 40 GB",
    "NVIDIA A100 80GB PCIe": "A100 PCIe 80 GB",
    "NVIDIA L4": "L4",
    "NVIDIA H100 PCIe": "H100 PCIe",
    "NVIDIA H100 80GB HBM3": "H100 SXM5",
    "NVIDIA H200": "H200 SXM",
    "NVIDIA H200 NVL": "H200 NVL",
}
UNKNOWN = (
    *("NVIDIA L40", "NVIDIA L40S", "NVIDIA T4G", "NVIDIA GH200 480GB", "NVIDIA GeForce RTX 4090", "GRID T4-16Q", "NVIDIA H200-141C"),
    *("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA H200 MIG 1g.18gb", "Tesla V100S-PCIE-32GB", ""),
)


def write(folder: Path, stem: str, text: str) -> Path:
    path = folder / "cfg" / "platforms" / f"{stem}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(("printed", "name"), NAMES.items())
def test_a_card_is_found_by_the_name_that_is_printed(printed: str, name: str) -> None:
    card = card_for(printed)
    assert card is not None
    assert card.name == name


@pytest.mark.parametrize("printed", UNKNOWN)
def test_an_unknown_device_and_a_slice_of_one_have_no_card(printed: str) -> None:
    assert card_for(printed) is None


def test_a_gpu_is_never_taken_for_its_processor() -> None:
    assert card_for("NVIDIA GeForce RTX 4090", "AMD EPYC 7R13") is None
    processor = card_for(None, "AMD EPYC 7R13")
    assert processor is not None
    assert processor.kind == "cpu"
    assert card_for(None, None) is None


def test_every_card_says_where_its_figures_come_from_and_holds_no_sparse_peaks() -> None:
    for card in cards():
        assert set(card.peak_flops) == set(ARITHMETIC)
        for group, origin in card.origin.items():
            assert origin.source, (card.name, group)
            assert origin.as_of or not origin.verified, (card.name, group)
        assert (card.price_per_hour is None) == (card.currency is None)
        peaks = card.peak_flops
        if peaks["bf16"]:  # tensor cores: bf16 like fp16, twice tf32
            assert peaks["bf16"] == peaks["fp16"]
            assert peaks["tf32"]
            assert peaks["bf16"] == pytest.approx(2 * peaks["tf32"], rel=0.02)


def test_fp32_convolutions_run_in_tf32_where_there_is_one() -> None:
    t4, a100 = card_for("Tesla T4"), card_for("NVIDIA A100-SXM4-40GB")
    assert t4
    assert a100
    assert t4.peak("fp32") == 8.1e12
    assert a100.peak("fp32") == a100.peak("tf32") == 156e12
    assert t4.peak("amp") == t4.peak("fp16") == 65e12
    assert t4.peak("bf16") is None
    assert t4.peak(None) is None
    assert t4.peak("int8") is None


def test_a_card_of_the_working_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "name: My T4\nmatch: Tesla T4\nprice: {per_hour: 0.2, currency: EUR, as_of: 2026-11-01, source: our SU rate, verified: true}\n"
    write(tmp_path, "t4", text)
    write(tmp_path, "epyc", "name: Our EPYC\nkind: cpu\nmatch: EPYC 7R13\npeak: {flops: {fp32: 1.5e+12}}\n")
    monkeypatch.chdir(tmp_path)
    card = card_for("Tesla T4")
    assert card
    assert card.name == "My T4"
    assert card.cost(1800) == pytest.approx(0.1)
    assert card.said("price") == "card My T4: price as of 2026-11-01, verified"
    assert card.peak("fp16") is None
    assert card_for("NVIDIA L4") is not None
    processor = card_for(None, "AMD EPYC 7R13 48-Core")
    assert processor
    assert processor.peak("fp32") == 1.5e12


def test_two_cards_of_one_folder_that_cover_a_name_alike_are_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for stem in ("one", "two"):
        write(tmp_path, stem, f"name: {stem}\nmatch: [NVIDIA (L4|A2), 'L4.*']\n")
    assert card_for("NVIDIA A2") is None


def test_a_card_of_another_file_name_in_the_working_folder_wins_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "mine", "name: Mine\nmatch: NVIDIA L4\n")
    card = card_for("NVIDIA L4")
    assert card
    assert card.name == "Mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [", "cannot be read"),
        ("- a list", "no mapping"),
        ("nmae: x", "did you mean 'name'"),
        ("peak: {flops: {fp23: 1.0e+12}}", "did you mean 'fp32'"),
        ("peak: {flops: 8.1}", "must map fp32"),
        ("peak: {flops: {fp32: 8e12}}", "must be a number"),
        ("memory: {bytes: 0}", "greater than 0"),
        ("memory: 16", "must be a mapping"),
        ("power: {tdp: 70}", "did you mean 'tdp_w'"),
        ("match: '('", "no regular expression"),
        ("match: {a: b}", "must be a regular expression"),
        ("price: {per_hour: .nan}", "greater than 0"),
        ("price: {per_hour: .inf}", "greater than 0"),
        ("price: {as_of: yesterday}", "must be a date"),
        ("price: {verified: maybe}", "true or false"),
        ("kind: tpu", "choose from cpu, gpu"),
        ("name: {a: 1}", "must be text"),
    ],
)
def test_a_bad_card_is_told_in_one_line_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, "bad", text)
    with pytest.raises(UserError) as error:
        read_card(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
