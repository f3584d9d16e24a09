"""The tests: `folding/` and `service/` mirror the code, `page/` and `command/` are what a user sees."""
