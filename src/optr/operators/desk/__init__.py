"""Decision makers for desktops: the contract, the built-ins, and who runs one."""

from optr.operators.desk.contract import ELEMENTS, PICTURE, POINTER, WINDOWS, DeskOperator
from optr.operators.desk.host import DeskEnding, DeskEpisode, DeskRow, Seat, run_desk, run_seat
from optr.operators.desk.registry import desk_operator_names, make_desk_operator

__all__ = [
    "ELEMENTS",
    "PICTURE",
    "POINTER",
    "WINDOWS",
    "DeskEnding",
    "DeskEpisode",
    "DeskOperator",
    "DeskRow",
    "Seat",
    "desk_operator_names",
    "make_desk_operator",
    "run_desk",
    "run_seat",
]
