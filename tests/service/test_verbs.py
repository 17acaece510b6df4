import pytest

from yoloperf.cli import main


@pytest.mark.parametrize(
    ("flag", "values", "least"),
    [
        ("--max-image-mb", ("nan", "inf", "1e308", "0"), 1),
        ("--max-pixels", ("nan", "inf", "1e30"), 1),
        ("--max-request-mb", ("nan", "inf"), 1),
        ("--streams", ("0",), 1),
        ("--max-wait-ms", ("nan", "inf", "-1"), 0),
        ("--drain-s", ("nan", "inf", "-1"), 0),
    ],
)
def test_limits_that_are_none(flag: str, values: tuple[str, ...], least: int, capsys: pytest.CaptureFixture[str]) -> None:
    for value in values:
        assert main(["serve", "--model", "nowhere.pt", flag, value]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{flag} must be from {least} to 1000000000, not" in line
