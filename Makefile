# `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-desktop loop test lint format build clean

VENV := .venv
# Rendering needs no screen; nodes of tests and demo keep to this machine.
export MUJOCO_GL ?= egl
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

# The wheels bring ROS 2 along; a sourced installation must not be mixed in.
run := env $(if $(ROS_DISTRO),-u PYTHONPATH -u LD_LIBRARY_PATH) -u CMAKE_PREFIX_PATH \
	-u _ROS_WHEELS_BOOTSTRAP_COMPLETE AMENT_PREFIX_PATH="$(CURDIR)/$(VENV)"

help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Tests, training and type checks need LeRobot and what it brings; the demonstration does not wait for it.
test lint: export WITH := lerobot desktop
loop: export WITH := lerobot
demo-desktop: export WITH := desktop

setup:  ## Make .venv with ROS 2 and optr (system packages by apt); WITH="lerobot desktop": these too.
	@scripts/setup

demo: setup  ## Run the demonstration.
	@$(run) $(VENV)/bin/optr demo $(ARGS)

demo-desktop: setup  ## On a desktop in memory: sign in to a page, add two numbers, save a note; replay all that.
	@$(run) $(VENV)/bin/optr desktop demo $(ARGS)

loop: setup  ## Record, train, deploy: a policy from nothing (docs/policies.md: how long); ARGS="--out FOLDER" goes on.
	@$(run) $(VENV)/bin/optr loop $(ARGS)

test: setup  ## Run the tests; ARGS="-k guard" goes to pytest.
	@$(run) $(VENV)/bin/python -m pytest $(ARGS)

lint: setup  ## Check style and types: ruff, mypy.
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(run) $(VENV)/bin/mypy

format: setup  ## Let ruff format the code and mend what it can.
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

build:  ## Build with colcon; source ROS 2 Jazzy first.
	@command -v colcon >/dev/null || { echo "make build: no colcon here; see docs/install.md" >&2; exit 1; }
	@test -n "$$AMENT_PREFIX_PATH" || { echo "make build: first: source /opt/ros/jazzy/setup.bash" >&2; exit 1; }
	colcon build --symlink-install $(ARGS)

clean:  ## Remove what setup and build made.
	rm -rf $(VENV) build install log src/optr.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src test -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
