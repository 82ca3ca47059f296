"""A page about a store, for people: what it holds, how good and how sure its teacher is, and on what it errs."""
from .page import write_report

__all__ = ['write_report']
