"""The rules that ship with optr. Each is loaded by its entry point, so that none costs who does not use it."""
