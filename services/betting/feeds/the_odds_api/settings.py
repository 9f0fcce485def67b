"""Settings of The Odds API's feed."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from betting.feeds.the_odds_api.client import Question
from betting.feeds.the_odds_api.markets import Rules
from betting.feeds.the_odds_api.polling import Pace
from betting.runtime.settings import Duration, ServiceSettings

SPORTS_MAX = 50
# A league's id in the catalogue, which is the sport's key, has at most 40 characters.
_SPORT = re.compile(r"[a-z0-9][a-z0-9_]{0,39}")
_WORD = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")
_MARKETS = frozenset({"h2h", "totals", "spreads"})
_US = timedelta(microseconds=1)


class OddsApiSettings(ServiceSettings):
    """The environment of the feed (BETTING_*). Only the key has no default; lists are separated by commas."""

    # API key of The Odds API.
    odds_api_key: SecretStr
    # Base URL of The Odds API.
    odds_api_url: str = "https://api.the-odds-api.com"
    # Keys of sports, as the source names them; leagues rather than cups, whose scores may count extra time.
    odds_api_sports: str = "soccer_epl"
    # Each request for the odds of a sport costs the number of regions times the number of markets in credits.
    odds_api_regions: str = "uk"
    # Kinds of markets to request, comma-separated.
    odds_api_markets: str = "h2h,totals,spreads"
    # Preferred bookmakers, in this order; others follow by name.
    odds_api_bookmakers: str = ""
    # Format of the prices to request.
    odds_api_format: Literal["decimal", "american"] = "decimal"
    # How often the odds of a sport are requested while a kick-off is near and credits suffice.
    odds_api_poll: Duration = Field(default=timedelta(seconds=60), gt=timedelta(0), le=timedelta(days=1))
    # Interval of the free request that checks whether the source answers; odds-service expects a heartbeat every 10 s.
    odds_api_pulse: Duration = Field(default=timedelta(seconds=8), gt=timedelta(0), le=timedelta(seconds=10))
    # Maximum age of prices; older ones are suspended.
    odds_api_max_age: Duration = Field(default=timedelta(minutes=10), gt=timedelta(0), le=timedelta(days=1))
    # Credits reserved for results: with no more than these left, no prices are requested.
    odds_api_reserve: int = Field(default=50, ge=0, le=1_000_000)
    # Timeout of a request.
    odds_api_timeout: Duration = Field(default=timedelta(seconds=8), gt=timedelta(0), le=timedelta(seconds=60))
    # Minimum time between two requests; the source allows 30 per second.
    odds_api_spacing: Duration = Field(default=timedelta(milliseconds=200), ge=timedelta(0), le=timedelta(seconds=10))
    # Interval of the feed's loops.
    odds_api_tick: Duration = Field(default=timedelta(milliseconds=500), gt=timedelta(0), le=timedelta(seconds=1))
    # How often an event that a service has refused is tried again.
    odds_api_retry_refused: Duration = Field(default=timedelta(minutes=5), gt=timedelta(0), le=timedelta(days=1))
    # How often matches whose result the source no longer has are logged again.
    odds_api_remind: Duration = Field(default=timedelta(hours=1), gt=timedelta(0), le=timedelta(days=365))

    @field_validator("odds_api_key")
    @classmethod
    def _key_is_a_word(cls, value: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", value.get_secret_value().strip()):
            raise ValueError("give the key of your account, 1 to 128 letters and digits")
        return value

    @field_validator("odds_api_url")
    @classmethod
    def _url_is_a_base(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.port == 0:  # one that is no number raises ValueError
            raise ValueError("port 0 leads nowhere: give an address such as https://api.the-odds-api.com")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("give an address such as https://api.the-odds-api.com")
        return value.rstrip("/")

    @field_validator("odds_api_sports")
    @classmethod
    def _sports_are_keys(cls, value: str) -> str:
        keys = _listed(value)
        if not 1 <= len(keys) <= SPORTS_MAX or not all(map(_SPORT.fullmatch, keys)):
            raise ValueError(
                f"give 1 to {SPORTS_MAX} keys of at most 40 characters, such as soccer_epl,soccer_spain_la_liga"
            )
        return value

    @field_validator("odds_api_regions")
    @classmethod
    def _there_are_regions(cls, value: str) -> str:
        if not _listed(value) or not all(map(_WORD.fullmatch, _listed(value))):
            raise ValueError("give at least one region, such as uk,eu")
        return value

    @field_validator("odds_api_markets")
    @classmethod
    def _markets_are_known(cls, value: str) -> str:
        if not _listed(value) or not _MARKETS.issuperset(_listed(value)):
            raise ValueError("give one or more of h2h, totals, spreads")
        return value

    @field_validator("odds_api_bookmakers")
    @classmethod
    def _bookmakers_are_keys(cls, value: str) -> str:
        if not all(map(_WORD.fullmatch, _listed(value))):
            raise ValueError("give keys of bookmakers, such as pinnacle,williamhill, or nothing")
        return value

    def sports(self) -> list[str]:
        """The sports asked for, each once."""
        return _listed(self.odds_api_sports)

    def question(self) -> Question:
        """What all questions have in common."""
        return Question(
            url=self.odds_api_url,
            key=self.odds_api_key.get_secret_value().strip(),
            regions=",".join(_listed(self.odds_api_regions)),
            markets=",".join(_listed(self.odds_api_markets)),
            odds_format=self.odds_api_format,
            timeout_s=self.odds_api_timeout.total_seconds(),
        )

    def rules(self) -> Rules:
        """How offers are read."""
        return Rules(self.odds_api_format, tuple(_listed(self.odds_api_bookmakers)), self.odds_api_max_age // _US)

    def pace(self) -> Pace:
        """How often to ask."""
        return Pace(
            poll_us=self.odds_api_poll // _US,
            pulse_us=self.odds_api_pulse // _US,
            max_age_us=self.odds_api_max_age // _US,
            spacing_us=self.odds_api_spacing // _US,
            odds_cost=len(_listed(self.odds_api_regions)) * len(_listed(self.odds_api_markets)),
            reserve_credits=self.odds_api_reserve,
        )


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(part for each in text.split(",") if (part := each.strip())))
