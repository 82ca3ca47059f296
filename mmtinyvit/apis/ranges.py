"""Ranges on the command line."""
import argparse

__all__ = ['parse_range']


def parse_range(text: str) -> tuple[int, int]:
    """``'0:90'`` as ``(0, 90)``, for argparse."""
    first, _, end = text.partition(':')
    if not (first.isdigit() and end.isdigit() and int(first) < int(end)):
        raise argparse.ArgumentTypeError(f'{text!r} is not A:B with A < B, for example 0:90')
    return int(first), int(end)
