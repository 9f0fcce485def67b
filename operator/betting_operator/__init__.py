"""The healer: a pure brain (`healing`) and the hands it acts with."""
