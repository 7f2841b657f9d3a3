"""Roles and states of AT-SPI by their numbers (`atspi-constants.h`), as the words of ARIA where it has one."""

from __future__ import annotations

_ROLES = """
    generic label alert animation arrow calendar canvas checkbox menuitemcheckbox dialog
    columnheader combobox textbox icon desktop slider dialog group canvas dialog
    generic generic dialog window generic document icon img window label
    generic list listitem menu menubar menuitem dialog tab tablist group
    textbox menu progressbar button radio menuitemradio generic rowheader scrollbar group
    separator slider spinbutton group status table cell columnheader rowheader menuitem
    terminal textbox button toolbar tooltip tree treegrid generic group window
    generic banner contentinfo paragraph separator application combobox toolbar group textbox
    figure caption document heading region group generic form link window
    row treeitem document document document document document comment listbox group
    img alert status meter banner blockquote group group definition article
    region log marquee math meter timer label math math subscript
    superscript list term definition note deletion insertion mark suggestion button
"""  # as in the header, ten a line

ROLES: tuple[str, ...] = tuple(_ROLES.split())
"""Word for each number of `AtspiRole`."""

CELLS = frozenset({"cell", "row", "columnheader", "rowheader", "listitem", "treeitem", "option", "icon"})
"""Roles of things that toolkits make only when they are asked for; so they are in no cache."""

CLIPPING = frozenset({31, 49, 55, 65, 66, 68, 82, 95, 98})
"""Numbers of lists, tables, panes and documents: of what is in them, nothing is to be seen around them."""

KNOWN = frozenset(ROLES) | {
    "option", "searchbox", "switch", "gridcell", "grid", "main", "navigation", "search", "complementary", "none",
    "alertdialog", "rowgroup", "tabpanel", "radiogroup", "feed", "emphasis", "strong", "code", "time", "directory",
}  # fmt: skip
"""Every role that a selector may ask for: those of AT-SPI, and those that only web pages have."""

_STATES = """
    invalid active armed busy checked collapsed defunct editable enabled expandable
    expanded focusable focused has_tooltip horizontal iconified modal multiline multiselectable opaque
    pressed resizable selectable selected sensitive showing single_line stale transient vertical
    visible manages_descendants indeterminate required truncated animated invalid_entry supports_autocompletion
    selectable_text default visited checkable has_popup readonly
"""

STATES: tuple[str, ...] = tuple(_STATES.split())
"""Word for each bit of an AT-SPI state set."""

TOLD = frozenset({
    "active", "busy", "checked", "collapsed", "editable", "enabled", "expandable", "expanded", "focusable", "focused",
    "modal", "multiline", "pressed", "selectable", "selected", "visible", "indeterminate", "required", "invalid_entry",
    "default", "visited", "checkable", "has_popup", "readonly", "password",
})  # fmt: skip
"""States that are told of elements; the others say how something is drawn."""

PASSWORD_TEXT = 40
"""Number of the role of what hides its text: to ARIA a textbox, told here by the state `password`."""


def bit(state: str) -> int:
    """Mask of a state in a state set."""
    return 1 << STATES.index(state)


def role_name(number: int) -> str:
    """Word for a role; `generic` for numbers that are newer than this list."""
    return ROLES[number] if 0 <= number < len(ROLES) else "generic"


def state_names(bits: int) -> tuple[str, ...]:
    """Words for a state set, sorted; `enabled` and `visible` as people mean them: it answers, and it is shown."""
    names = {name for place, name in enumerate(STATES) if bits >> place & 1}
    wanted = names & (TOLD - {"enabled", "visible"})
    wanted |= {"enabled"} if names & {"sensitive"} else set()
    wanted |= {"visible"} if "showing" in names else set()
    return tuple(sorted(wanted))
