"""Desktops and robots by a few words: `await op.execute_action("click", selector="#username")`."""

from optr.facade.connector import Connector
from optr.facade.desktop import DesktopConnector
from optr.facade.operator import Operator
from optr.facade.robot import RobotConnector, RobotResult

__all__ = ["Connector", "DesktopConnector", "Operator", "RobotConnector", "RobotResult"]
