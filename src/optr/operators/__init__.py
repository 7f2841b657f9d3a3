"""Decision makers and the contract that makes them interchangeable."""

from optr.operators.contract import Action, Array, Operator, OperatorDescriptor
from optr.operators.host import OperatorHost
from optr.operators.registry import make_operator, operator_names

__all__ = [
    "Action",
    "Array",
    "Operator",
    "OperatorDescriptor",
    "OperatorHost",
    "make_operator",
    "operator_names",
]
