"""Secrets that are known by their own look: formats their makers document, and long runs made by chance.

The formats are facts of the makers' documentation: a prefix, an alphabet, a length. Lengths are lower bounds, because makers
lengthen them. What fits no format but mixes small letters, capitals and digits over 24 characters and more is taken for a
secret too; hashes in hexadecimal, digests with their algorithm before them, and identifiers made of words stay.
"""

from __future__ import annotations

import re

from advisor.redaction.pseudonyms import MARK, Hiding
from advisor.redaction.randomness import mixes_capitals

_T = r"A-Za-z0-9_\-"  # the usual alphabet of tokens
_UUID = "[0-9a-fA-F]{8}-(?:[0-9a-zA-Z]{4}-){3}[0-9a-zA-Z]{12}"

# The literal beginning decides whether the expression is tried at all; so it has to be one that words do not contain.
_FORMATS: tuple[tuple[tuple[str, ...], str], ...] = (
    # web tokens
    (("eyJ",), r"eyJ[A-Za-z0-9_-]{8,4000}(?:\.[A-Za-z0-9_-]{0,4000}){1,4}|eyJ[A-Za-z0-9+/_-]{40,4000}={0,2}"),
    # clouds
    (("AKIA", "ASIA", "ABIA", "ACCA", "A3T"), r"(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}(?![A-Za-z0-9])"),
    (
        ("ABSK", "bedrock-api-key-", "amzn.mws."),
        rf"ABSK[A-Za-z0-9+/]{{60,400}}={{0,2}}|bedrock-api-key-[A-Za-z0-9+/=]{{20,400}}|amzn\.mws\.{_UUID}",
    ),
    (
        ("AIza", "ya29.", "GOCSPX", "1//0"),
        rf"AIza[{_T}]{{35}}|ya29\.[{_T}]{{20,400}}|GOCSPX-[{_T}]{{20,60}}|1//0[{_T}]{{40,120}}",
    ),
    (("Q~",), r"[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,36}"),  # Azure AD
    (("LTAI", "AQVN"), rf"LTAI[A-Za-z0-9]{{12,30}}|AQVN[{_T}]{{35,60}}"),
    (("dop_v1_", "doo_v1_", "dor_v1_", "dot_v1_"), r"do[oprt]_v1_[a-f0-9]{60,70}"),
    (
        ("dapi", "tgp_v1_", "fo1_", "fm1", "fm2_", "pscale_"),
        rf"dapi[a-f0-9]{{32}}(?:-\d)?|tgp_v1_[{_T}]{{30,80}}|fo1_[{_T}]{{40,60}}|fm[12][ar]?_[A-Za-z0-9+/]{{60,600}}={{0,3}}|pscale_(?:tkn|oauth|pw)_[{_T}.=]{{30,80}}",
    ),
    (
        ("HRKU-", "rnd_", "nfp_", "SCW"),
        rf"HRKU-[{_T}]{{30,80}}|rnd_[A-Za-z0-9]{{28,40}}|nfp_[A-Za-z0-9]{{30,60}}|SCW[A-Z0-9]{{17}}",
    ),
    (("cfat_", "cfut_", "cfk_", "v1.0-"), r"cf(?:at|ut|k)_[A-Za-z0-9]{40,80}|v1\.0-[a-f0-9]{24}-[a-f0-9]{100,180}"),
    (("vca_", "vcc_", "vci_", "vck_", "vcp_", "vcr_"), r"vc[acikpr]_[A-Za-z0-9_-]{40,80}"),
    # code hosts, registries, builds
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[pousr]_[A-Za-z0-9]{30,255}"),
    (
        (
            "github_pat_",
            "glpat-",
            "gldt-",
            "glrt-",
            "glrtr-",
            "glft-",
            "glcbt-",
            "glptt-",
            "glagent-",
            "glsoat-",
            "gloas-",
            "glimt-",
            "glffct-",
            "glwt-",
            "GR1348941",
        ),
        rf"github_pat_[A-Za-z0-9_]{{30,120}}|gl[a-z]{{2,6}}-[{_T}.]{{20,400}}|GR1348941[{_T}]{{18,60}}",
    ),
    (
        ("ATATT3", "ATCTT3", "ATBB", "BBDC-"),
        rf"AT[AC]TT3[{_T}=]{{30,300}}|ATBB[A-Za-z0-9]{{28,40}}|BBDC-[A-Za-z0-9+/]{{30,60}}",
    ),
    (
        ("npm_", "pypi-", "rubygems_", "CLOJARS_", "oy2"),
        rf"npm_[A-Za-z0-9]{{30,60}}|pypi-[{_T}]{{40,400}}|rubygems_[a-f0-9]{{40,60}}|CLOJARS_[a-z0-9]{{50,70}}|oy2[a-z0-9]{{43}}",
    ),
    (("dckr_", "SWMTKN-", "SWMKEY-"), rf"dckr_[a-z]{{2,5}}_[{_T}]{{20,60}}|SWM(?:TKN|KEY)-1-[{_T}]{{30,200}}"),
    (("AKCp", "cmVmdGtu"), r"AKCp[A-Za-z0-9_-]{50,90}|cmVmdGtu[A-Za-z0-9+/_-]{40,80}={0,2}"),
    (
        ("squ_", "sqp_", "sqa_", "sgp_", "pul-", "pnu_", "API-", "CFPAT-"),
        rf"sq[apu]_[a-z0-9]{{40}}|sgp_[A-Za-z0-9_]{{40,70}}|pul-[a-f0-9]{{40}}|pnu_[A-Za-z0-9]{{36}}|API-[A-Z0-9]{{25,30}}|CFPAT-[{_T}]{{40,50}}",
    ),
    (
        ("figd_", "figo_", "lin_", "ntn_", "secret_"),
        rf"fig[do]_[{_T}]{{30,60}}|lin_(?:api|oauth)_[A-Za-z0-9]{{30,70}}|ntn_[A-Za-z0-9]{{40,60}}|secret_[A-Za-z0-9]{{40,50}}",
    ),
    (
        ("PMAK-", "PMAT-", "ops_eyJ", "A3-"),
        r"PMA[KT]-[A-Za-z0-9-]{20,80}|ops_eyJ[A-Za-z0-9+/=_-]{100,2000}|A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}",
    ),
    # secret stores, infrastructure
    (("hvs.", "hvb.", "hvr.", ".atlasv1."), rf"hv[sbr]\.[{_T}]{{20,400}}|[A-Za-z0-9]{{14}}\.atlasv1\.[{_T}=]{{50,80}}"),
    (("dp.",), r"dp\.(?:pt|st|ct|scim|audit|said|sa)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,44}"),
    (
        ("AGE-SECRET-KEY-", "sha256~", "dnkey-", "tskey-"),
        rf"AGE-SECRET-KEY-1[A-Z0-9]{{50,70}}|sha256~[{_T}]{{43}}|dnkey-[{_T}=]{{20,120}}|tskey-[a-z]{{2,8}}-[{_T}]{{20,80}}",
    ),
    (("SUA", "SAA", "SOA", "SNA", "SCA", "SXA"), r"S[UAONCX]A[A-Z2-7]{55}(?![A-Z0-9])"),  # NATS seeds
    (
        ("glc_", "glsa_", "dt0"),
        r"glc_[A-Za-z0-9+/=]{30,400}|glsa_[A-Za-z0-9]{30,40}_[A-Fa-f0-9]{8}|dt0[a-z]\d\d\.[A-Z0-9]{8,24}\.[A-Z0-9]{60,70}",
    ),
    (("NRAK-", "NRII-", "NRJS-", "NRRA-", "NRBR-", "NRIQ-", "NRSP-"), rf"NR(?:AK|II|IQ|JS|RA|BR|SP)-[{_T}]{{15,64}}"),
    (("sntry", "phc_", "phs_", "phx_", "phr_"), rf"sntry[a-z]_[{_T}+/=]{{40,400}}|ph[crsx]_[A-Za-z0-9_-]{{35,60}}"),
    # messages, mail
    (
        ("xox", "xapp", "hooks.slack.com", "hooks.slack-gov.com"),
        r"xox[abeoprs][-.][A-Za-z0-9.-]{10,400}|xapp-[A-Za-z0-9-]{10,200}|(?<=hooks\.slack\.com/services/)[A-Za-z0-9/_-]{12,120}|(?<=hooks\.slack\.com/workflows/)[A-Za-z0-9/_-]{12,120}",
    ),
    (
        ("discord",),
        r"(?<=discord\.com/api/webhooks/)[0-9]{15,22}/[\w-]{40,100}|(?<=discordapp\.com/api/webhooks/)[0-9]{15,22}/[\w-]{40,100}",
    ),
    ((".office.com/", "webhook"), r"(?<=\.webhook\.office\.com/webhookb2/)[\w@/-]{60,300}"),
    ((":AA", ":AB"), r"\d{8,10}:A[A-Za-z0-9_-]{34}"),  # Telegram
    (
        ("SG.", "xkeysib-", "xsmtpsib-", "key-", "-us"),
        r"SG\.[A-Za-z0-9_-]{16,40}\.[A-Za-z0-9_-]{20,80}|x(?:key|smtp)sib-[a-f0-9]{60,70}-[A-Za-z0-9]{12,20}|(?:pub)?key-[a-f0-9]{32}(?![a-f0-9])|[a-f0-9]{32}-us\d{1,2}",
    ),
    (("SK", "AC"), r"(?:SK|AC)[a-f0-9]{32}(?![a-f0-9])"),  # Twilio
    (
        ("IGQV", "EAA", "|", "AAAAAAAAAAAAAAAAAAAA"),
        r"IGQV[A-Za-z0-9_-]{60,300}|\d{14,17}\|[A-Za-z0-9_-]{26,40}|EAA[A-Za-z0-9]{40,400}|A{20,24}[A-Za-z0-9%_-]{40,120}",
    ),
    # payments, shops
    (
        ("sk_", "rk_", "pk_", "whsec_", "sk-"),
        rf"[prs]k_(?:live|test|prod)_[A-Za-z0-9]{{10,200}}|whsec_[A-Za-z0-9+/=]{{16,200}}|sk-[{_T}]{{20,300}}",
    ),
    (
        ("shp", "sq0", "EAAA", "shippo_"),
        rf"shp[a-z]{{2,3}}_[a-fA-F0-9]{{32}}|sq0[a-z]{{3}}-[{_T}]{{22,60}}|EAAA[{_T}]{{60}}|shippo_(?:live|test)_[a-f0-9]{{40}}",
    ),
    (
        ("access_token$", "FLW", "EZAK", "EZTK", "duffel_", "_pub_"),
        rf"access_token\$production\$[a-z0-9]{{16}}\$[a-f0-9]{{32}}|FLW(?:PUBK|SECK)(?:_TEST)?-[A-Za-z0-9]{{12,40}}(?:-X)?|EZ[AT]K[A-Za-z0-9]{{54}}|duffel_(?:test|live)_[{_T}=]{{40,60}}|(?:live|test)_(?:pub_)?[a-f0-9]{{30,40}}",
    ),
    # models and other makers
    (
        ("gsk_", "hf_", "api_org_", "pplx-", "xai-", "tvly-", "r8_", "LLM", "llx-", "lsv2_"),
        rf"gsk_[A-Za-z0-9_-]{{40,70}}|hf_[A-Za-z0-9_-]{{30,50}}|api_org_[A-Za-z0-9_-]{{30,50}}|pplx-[A-Za-z0-9_-]{{40,70}}|xai-[A-Za-z0-9]{{60,100}}|tvly-[A-Za-z0-9-]{{20,60}}|r8_[A-Za-z0-9_-]{{30,50}}|LLM\|\d{{10,20}}\|[{_T}]{{20,60}}|llx-[A-Za-z0-9_-]{{40,60}}|lsv2_(?:pt|sk)_[a-f0-9_]{{32,60}}",
    ),
    (
        ("p8e-", "ico-", "fio-u-", "s-s4t2", "rdme_", "cosmo_", "tfp_", "sl.", "sbp_", "sb_"),
        rf"p8e-[a-fA-F0-9]{{32}}|ico-[A-Za-z0-9]{{32}}|fio-u-[{_T}=]{{60,70}}|s-s4t2(?:ud|af)-[a-f0-9]{{60,70}}|rdme_[a-z0-9]{{60,80}}|cosmo_[a-f0-9]{{32}}|tfp_[{_T}.=]{{50,70}}|sl\.[{_T}=]{{60,2000}}|sbp_[a-z0-9_]{{40,60}}|sb_(?:secret|publishable)_[{_T}]{{20,60}}",
    ),
    (
        ("akab-", "tk-us-", "sm_", "pat"),
        rf"akab-[{_T}]{{30,60}}|tk-us-[{_T}]{{40,60}}|sm_(?:aat|pat|sat)_[A-Za-z0-9]{{16,40}}|pat[A-Za-z0-9]{{14}}\.[a-f0-9]{{60,70}}|pat\.[{_T}]{{22}}\.[a-f0-9]{{24}}\.[A-Za-z0-9]{{20}}",
    ),
    (("sdk-", "mob-", "api-"), rf"(?:sdk|mob|api)-{_UUID}"),  # LaunchDarkly
    (
        ("TlRMTVNTUAA", "LS0tLS1CRUdJTi"),
        r"TlRMTVNTUAA[A-Za-z0-9+/]{12,4000}={0,2}|LS0tLS1CRUdJTi[A-Za-z0-9+/]{20,20000}={0,2}",
    ),  # NTLM; PEM in base64
)
# Hashed passwords may follow anything.
_HASHED = re.compile(
    r"\$2[abxy]?\$\d\d\$[A-Za-z0-9./]{53}|\$(?:1|5|6|y|apr1|argon2id?|scrypt|pbkdf2[\w-]{0,12})\$[A-Za-z0-9./,=$+-]{20,200}"
)
_DISCORD = re.compile(r"(?<![A-Za-z0-9_.-])[MNO][A-Za-z0-9_-]{22,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}")
_WORDS = tuple(dict.fromkeys(word for words, _ in _FORMATS for word in words))
_OF_WORD: dict[str, list[int]] = {
    word: [n for n, (words, _) in enumerate(_FORMATS) if word in words] for word in _WORDS
}
# A token begins behind what is no letter or digit, or behind an escape: JSON's line break, a URL's percent sign.
_BEGIN = r"(?:(?<![A-Za-z0-9])|(?<=\\[abfnrtv0])|(?<=%[0-9A-Fa-f]{2}))"
_COMPILED: dict[int, re.Pattern[str]] = {}

# Every format has a run like this, with a digit or a capital in it; lines without one are spared the words.
_LONG = re.compile(r"[A-Za-z0-9_+/~|.=$-]{14,}+")
_DIGIT = re.compile(r"[0-9]")

_RUN = re.compile(r"(?<![A-Za-z0-9+/_=.-])[A-Za-z0-9+/_-]{24,}+={0,2}")
_DIGEST = re.compile(r"(?:sha(?:1|224|256|384|512)|md5|blake2\w?|SHA256|h1)[-:=]$", re.I)


def without_formats(text: str, hide: Hiding) -> str:
    """Return the text without secrets known by their own look."""
    if "$" in text:
        text = _HASHED.sub(lambda found: hide(found[0]), text)
    if not any(_DIGIT.search(run) or not run.islower() for run in _LONG.findall(text)):
        return text
    tried: set[int] = set()
    for word in _WORDS:
        if word in text:
            tried.update(_OF_WORD[word])
    for number in sorted(tried):
        text = _format(number).sub(lambda found: hide(found[0]), text)
    text = _DISCORD.sub(lambda found: hide(found[0]), text)
    return _RUN.sub(lambda found: _hidden_run(found, hide), text)


def _format(number: int) -> re.Pattern[str]:
    if number not in _COMPILED:  # compiled when first met: most processes meet few
        _COMPILED[number] = re.compile(rf"{_BEGIN}(?:{_FORMATS[number][1]})")
    return _COMPILED[number]


def _hidden_run(found: re.Match[str], hide: Hiding) -> str:
    run = found[0]
    before = found.string[max(0, found.start() - 8) : found.start()]
    if _DIGEST.search(before) or before.endswith(MARK) or _DIGEST.match(run[:7]):
        return run
    # Of a path, the longest part decides; what a generator made in base64 has no long parts of words.
    return hide(run) if mixes_capitals(run) and not _is_digest(run) and not _is_path(run) else run


def _is_digest(run: str) -> bool:
    return re.match(r"(?:sha\d{3}|md5|SHA256)[-:]", run) is not None


def _is_path(run: str) -> bool:
    parts = [p for p in re.split(r"[/_-]", run) if p]
    return max(map(len, parts), default=0) < 8 or any(
        len(p) > 5 and p.isalpha() and (p.islower() or p.istitle()) for p in parts
    )
