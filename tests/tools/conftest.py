import pytest
from tiny_flow import one_thread


@pytest.fixture(autouse=True)
def single_thread():
    with one_thread():
        yield
