"""The currencies of ISO 4217, list one (2026): code and decimals. Amounts are minor units everywhere; decimals are for
showing them to people. Without funds, metals and test codes (CLF, XAU, XXX …): nobody has an account in those.
"""

from __future__ import annotations

from typing import Final

_BY_DECIMALS: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC "
        "CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR "
        "JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD "
        "NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN "
        "SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
}
# Minor units in one major unit, as a power of ten, by code.
DECIMALS: Final = {code: decimals for decimals, codes in _BY_DECIMALS.items() for code in codes.split()}


def parsed(text: str) -> tuple[str, ...]:
    """The codes in a comma-separated list, each once. Raises ValueError that names those which are none."""
    codes = tuple(dict.fromkeys(code.strip() for code in text.split(",") if code.strip()))
    if not codes:
        raise ValueError("give at least one ISO 4217 code, like GBP,EUR,USD")
    unknown = [code for code in codes if code not in DECIMALS]
    if unknown:
        named = ", ".join(ascii(code[:20]) for code in unknown[:10])
        raise ValueError(f"{named} is no currency of ISO 4217: give codes in capitals, like GBP,EUR,USD")
    return codes
