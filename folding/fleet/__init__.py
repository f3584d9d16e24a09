"""Fleet: the report over many models, in all its forms, and reports as files. Import its modules one by one.

model (plain data and its JSON form), text, html, markdown; junit and sarif (for CI servers, of one model, too); file
(the form follows from the suffix of the name, be the report of one model or of many).

May import: `folding.report` and all below it.
"""
