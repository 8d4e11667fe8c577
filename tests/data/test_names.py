import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundglass.labels import canonical_label


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("covid", "covid"),
        ("COVID", "covid"),
        ("covid-19", "covid"),
        ("COVID19", "covid"),
        ("CT_COVID", "covid"),
        ("Covid positive", "covid"),
        ("positive", "covid"),
        ("SARS-CoV-2", "covid"),
        ("2019-nCoV", "covid"),
        ("NCP", "covid"),
        ("CT_NonCOVID", "not covid"),
        ("non-covid", "not covid"),
        ("no covid", "not covid"),
        ("Not COVID-19", "not covid"),
        ("COVID-negative", "not covid"),
        ("negative", "not covid"),
        ("normal", "normal"),
        ("Mycoplasma", "mycoplasma"),
        (" Viral Pneumonia ", "viral pneumonia"),
        ("CP", "cp"),
        ("no", "no"),
        ("post-covid", "post-covid"),
        ("covid or flu", "covid or flu"),
        ("1", "1"),
    ],
)
def test_labels_are_understood_only_where_they_are_clear(name: str, label: str) -> None:
    assert canonical_label(name) == label


@settings(deadline=None)
@given(st.text(alphabet="covid nNoOtTsSgGeEaA-_19", max_size=14))
def test_canonical_labels_stay_as_they_are(name: str) -> None:
    label = canonical_label(name)
    assert canonical_label(label) == label
