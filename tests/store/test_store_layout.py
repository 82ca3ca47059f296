import pytest

from mmtinyvit.store.layout import spell_numbers


@pytest.mark.parametrize('numbers, text', [([], 'none'), ([7], '7'), (range(4), '0-3'), ([0, 1, 2, 3, 7], '0-3, 7'),
                                           ([5, 3, 4], '5, 3-4')])
def test_numbers_are_spelled_as_ranges(numbers, text):
    assert spell_numbers(numbers) == text
