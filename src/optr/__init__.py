"""Any operator, in any environment, under one guard, on one record, over ROS 2."""

__version__ = "0.1.0"
