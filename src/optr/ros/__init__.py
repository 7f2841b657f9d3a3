"""What all nodes share of ROS. Beside the nodes, the only code that imports rclpy."""
