import pytest

from miram.errors import InputError
from miram.flags import flag


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), ("False", False), ("false", False), ("TRUE", True), (0, False), ("yes", True)]
)
def test_flags_are_read_from_text_and_python(value, expected):
    assert flag("resume", value) is expected


@pytest.mark.parametrize("value", ["maybe", "", None, 2, 1.0])
def test_anything_else_is_refused_by_name(value):
    with pytest.raises(InputError, match="--resume"):
        flag("resume", value)
