"""Lets failed pictures show what differs."""

import pytest

pytest.register_assert_rewrite("tests.pictures")
