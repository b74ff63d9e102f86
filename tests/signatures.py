"""How the shapes and types in the signatures of `lateral` are checked while the tests run."""

from beartype import BeartypeConf, beartype

# A whole number is a real number, as everywhere in Python.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
