"""What all nodes share of ROS: QoS, parameters, conversions, loops, start and end. The only code beside the nodes that
imports rclpy.
"""
