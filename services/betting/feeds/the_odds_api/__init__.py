"""The Odds API (the-odds-api.com, version 4): a feed that asks for real events, prices and scores over HTTP."""
