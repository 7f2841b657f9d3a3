"""MiniWoB++ by real input: its pages in Chromium, a guard before every action, and an operator made of rules."""
