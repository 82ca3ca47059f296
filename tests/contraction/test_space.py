"""The search space: the paper's family lies in it, and its neighbours are what the moves lead to."""
import pytest

from mmtinyvit.contraction.architecture import Architecture
from mmtinyvit.contraction.counts import count_parameters
from mmtinyvit.contraction.space import Space, parse_values
from mmtinyvit.errors import UserError

SIZE = (224, 224)


def published(arch: str) -> Architecture:
    return Architecture.of_backbone(dict(arch=arch))


# ---------------------------------------------------------------- the paper's family
def test_the_published_limits_contain_the_family():
    """From 21M, in two steps of channels alone, with 11 M and 5.5 M parameters as limits."""
    space = Space.around(published('21m'), SIZE, ['D'])
    assert {published('21m'), published('11m'), published('5m')} <= {each for each in map(published, (
        '21m', '11m', '5m')) if each in space}
    for larger, smaller, limit in (('21m', '11m', 11.1e6), ('11m', '5m', 5.5e6)):
        found = set(space.neighbours(published(larger), moves=4, reach=5))
        assert published(smaller) in found and published(larger) not in found
        assert count_parameters(published(smaller)) < limit
    assert published('11m') in Space.around(published('21m'), SIZE)  # and with all factors


@pytest.mark.parametrize('arch, limit, close', [('21m', 11.1e6, 984), ('11m', 5.5e6, 246)])
def test_what_was_counted_by_hand(arch, limit, close):
    """Channels down by 32 k and windows of 7 or 14: so many lie within 10 % below the limit."""
    seed = published(arch)
    found = list(Space.around(seed, SIZE, ['D', 'W'], dict(W=(7, 14))).neighbours(seed, moves=7, reach=18))
    assert len(set(found)) == len(found)
    assert sum(0.9 * limit <= count_parameters(each) <= limit for each in found) == close


# ---------------------------------------------------------------- neighbours
def test_moves_and_reach():
    base = Architecture.parse('d32-64-96-128_n1-2-3-1_w7-7-7_r4_m4_e32')
    space = Space.around(base, (64, 64), ['D', 'N3'])
    one = {neighbour.name for neighbour in space.neighbours(base, moves=1, reach=1)}
    assert one == {f'd{dims}_n1-2-{depth}-1_w7-7-7_r4_m4_e32' for dims, depth in (
        ('32-32-96-128', 3), ('32-64-64-128', 3), ('32-64-96-96', 3), ('32-64-96-128', 2))}
    assert 'd32-64-32-128' not in ''.join(each.name for each in space.neighbours(base, 1, 2))  # narrower than before
    two = list(space.neighbours(base, moves=2, reach=1))
    assert len(set(two)) == len(two) == 4 + 6 == space.count(base, 2, 1)
    assert {each.depths[2] for each in space.neighbours(base, moves=1, reach=9)} == {1, 2, 3}


def test_windows_larger_than_the_map_are_left_out():
    base = Architecture.parse('d32-64-96-128_n1-1-1-1_w4-4-2_r4_m4_e32')
    values = Space.around(base, (64, 64)).values
    assert values['W2'] == (4, 7) and values['W3'] == (4, ) and values['W4'] == (2, )  # maps of 8, 4 and 2


def test_heads_divide_the_channels():
    base = Architecture.parse('d32-48-64-96_n1-1-2-1_w4-4-4_r4_m4_e24-32-32')
    space = Space.around(base, (32, 32), given={'E': (16, 24)})
    moved = set(space.neighbours(base, 14, 1))
    assert moved and all(each.is_valid for each in moved)
    assert {each.head_dims for each in moved} == {(24, 32, 32), (16, 16, 16)}
    assert 'e24-32-32' in base.name and any(each.name.endswith('e16') for each in moved)


def test_more_neighbours_than_can_be_listed_are_drawn(monkeypatch):
    monkeypatch.setattr('mmtinyvit.contraction.space.MOST_NEIGHBOURS', 100)
    space, seed = Space.around(published('21m'), SIZE), published('21m')
    first, again, other = (list(space.neighbours(seed, 4, 4, number)) for number in (0, 0, 1))
    assert first == again != other and 50 < len(first) <= 100


# ---------------------------------------------------------------- options
def test_values():
    assert parse_values('D=32:96:32') == ('D', (32, 64, 96)) and parse_values('R=2:3:0.5') == ('R', (2, 2.5, 3))
    assert parse_values('M=2:2.3:0.1') == ('M', (2, 2.1, 2.2, 2.3))  # no 2.3000000000000003
    assert parse_values('N3=1:3') == ('N3', (1, 2, 3)) and parse_values('W=7,14') == ('W', (7, 14))
    space = Space.around(published('5m'), SIZE, given=dict(map(parse_values, ('D=32:96:32', 'D3=160', 'R=4'))))
    assert space.values['D2'] == (32, 64, 96) and space.values['D3'] == (160, ) and space.values['R'] == (4, )
    assert published('5m') not in space


@pytest.mark.parametrize('text', ['D', 'D=', 'D=x', 'D=1:2:0', 'N=0:2', 'D=1.5', 'W=1:2:3:4', 'R=nan', 'R=inf',
                                  'D=32:inf:32', 'D=1:1e9'])
def test_no_values(text):
    with pytest.raises(UserError, match='gives no values of a factor: write, for example, D=32:448:32'):
        parse_values(text)


def test_values_of_what_may_not_move():
    with pytest.raises(UserError, match='--space has values of W, which --factors D N3 does not let move: add'):
        Space.around(published('5m'), SIZE, ['D', 'N3'], dict(N=(1, 2), W=(7, )))


def test_a_factor_that_does_not_exist():
    for name in ('Q', 'D5', 'W1', ''):
        with pytest.raises(UserError, match=f"There is no factor '{name}': choose of D, N, W"):
            Space.around(published('5m'), SIZE, [name])
