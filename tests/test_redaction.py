"""Redaction: planted secrets of many shapes vanish, equal ones stay equal, and what is no secret survives."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from advisor import redaction
from advisor.model_port import ConversationEvent
from advisor.redacted import RedactedPieces
from advisor.redaction import TEXT_CHARACTERS_MAX, formats, is_secret_key, mask, redact, redact_value, use_key

S = "s3cr3tV4lue9X"  # the planted secret
HEX64 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
PEM = "-----BEGIN RSA PRIVATE KEY-----\n{0}MIIEpAIBAAKCAQEA7bq\n{0}PLANTEDKEYBODY8vQJ\n{0}-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.dBjftJeZ4CVPmB92K27uhbUJU1p1r"

PLANTED = [
    # URLs
    ("url", f"https://app:{S}@example.org/x"),
    ("url-no-user", f"redis://:{S}@cache:6379/0"),
    ("url-slash-in-password", f"amqp://u:p/{S}@mq/"),
    ("url-at-in-password", f"postgresql://u:a@{S}@h/x"),
    ("url-token-as-user", f"https://{S}@example.org/x.git"),
    ("url-many-hosts", f"mongodb+srv://u:{S}@h1:27017,h2:27017/x"),
    ("url-query", f"https://example.org/cb?access_token={S}&x=1"),
    ("url-signature", f"https://blob.example.org/c?se=2026&sig={S}%3D&sv=1"),
    ("aws-presigned", f"https://s3.example.org/o?X-Amz-Signature={S}&X-Amz-Security-Token={S}"),
    ("slack-hook", f"https://hooks.slack.com/services/T00000000/B00000000/{S}abcdefghij"),
    # JDBC
    ("jdbc-parameter", f"jdbc:postgresql://db:5432/shop?user=app&password={S}&ssl=true"),
    ("jdbc-semicolon", f"jdbc:sqlserver://db;user=app;password={S};encrypt=true"),
    ("jdbc-userinfo", f"jdbc:mysql://app:{S}@db/shop"),
    ("jdbc-oracle", f"jdbc:oracle:thin:app/{S}@db:1521/x"),
    # headers
    ("bearer", f"Authorization: Bearer {S}"),
    ("basic", f"authorization=Basic {S}=="),
    ("bare", f"Authorization: {S}"),
    ("other-scheme", f"Authorization: ApiKey {S}"),
    ("json-header", f"{{'Authorization': 'Bearer {S}'}}"),
    ("curl-header", f"curl -H 'Authorization: token {S}' https://x"),
    ("digest", f'Authorization: Digest username="x", response="{S}"'),
    ("aws-v4", f"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/2026, Signature={S}"),
    ("proxy", f"Proxy-Authorization: Basic {S}"),
    ("x-api-key", f"X-Api-Key: {S}"),
    ("x-auth-token", f"X-Auth-Token: {S}"),
    ("private-token", f"PRIVATE-TOKEN: {S}"),
    ("cookie", f"Cookie: lang=de; JSESSIONID={S}"),
    ("set-cookie", f"Set-Cookie: session={S}; Path=/; HttpOnly"),
    # command lines
    ("-D", f"java -Dpassword={S} -Xmx1g"),
    ("-D-keystore", f"-Djavax.net.ssl.keyStorePassword={S} -Xmx512m"),
    ("-D-spring", f"-Dspring.datasource.password={S}"),
    ("flag", f"tool --password {S} --verbose"),
    ("flag-quoted", f"tool --db-password '{S} {S}'"),
    ("flag-equals", f"tool --api-key={S}"),
    ("curl-user", f"curl -u app:{S} https://x"),
    ("mysql", f"mysqldump -u root -p{S} shop"),
    ("sshpass", f"sshpass -p {S} ssh host"),
    # environment
    ("env", f"DB_PASSWORD={S}"),
    ("env-export", f"export AWS_SECRET_ACCESS_KEY={S}"),
    ("env-pg", f"env PGPASSWORD={S} psql"),
    ("env-mysql", f"MYSQL_PWD={S}"),
    ("env-short", f"DB_PASS={S}"),
    ("env-api", f"STRIPE_API_KEY={S}"),
    ("env-base", f"SECRET_KEY_BASE={S}"),
    ("env-token", f"GITHUB_TOKEN={S}"),
    ("env-redis", f"REDIS_AUTH={S}"),
    ("env-url", f"DATABASE_URL=postgres://u:{S}@h/db"),
    ("pod-env", f"- name: DB_PASSWORD\n  value: {S}"),
    ("pod-env-json", f'{{"name": "DB_PASSWORD", "value": "{S}"}}'),
    # YAML
    ("yaml", f"password: {S}"),
    ("yaml-double", f'spring:\n  password: "{S}"'),
    ("yaml-single", f"password: 'it''s {S}'"),
    ("yaml-spaces", f"password: correct {S} battery"),
    ("yaml-commas", f"password: ab,{S}"),
    ("yaml-next-line", f"password:\n  {S}"),
    ("yaml-literal", f"password: |\n  {S}\n  {S}more\nnext: 1"),
    ("yaml-folded", f"a:\n  client-secret: >-\n    {S}\n"),
    ("yaml-list", f"tokens:\n  - {S}\n  - {S}2\nx: 1"),
    ("yaml-flow-list", f"tokens: [\"{S}\", '{S}2']"),
    ("yaml-in-diff", f"+  password: |\n+    {S}\n+    {S}2\n+  next: 1"),
    ("spring-default", f"password: ${{DB_PASSWORD:{S}}}"),
    ("spring-noop", f"password: {{noop}}{S}"),
    ("camel", f"clientSecret: {S}"),
    ("kebab", f"api-key: {S}"),
    ("all-digits", "password: 90210451"),
    # JSON
    ("json", f'{{"db":{{"password":"{S}","port":5432}}}}'),
    ("json-spaces", f'"client_secret" : "{S}"'),
    ("json-escaped-quote", f'"password": "ab\\"{S}"'),
    ("json-in-json", f'{{"body":"{{\\"password\\":\\"{S}\\"}}"}}'),
    # properties and others
    ("properties", f"spring.datasource.password={S}"),
    ("properties-colon", f"spring.datasource.password : {S}"),
    ("properties-continued", f"jwt.secret=abc\\\n   {S}"),
    ("encrypt-key", f"encrypt.key={S}"),
    ("keystore", f"ssl.keystore.password={S}"),
    ("jaas", f'sasl.jaas.config=x.PlainLoginModule required username="a" password="{S}";'),
    ("npmrc", f"//registry.example.org/:_authToken={S}"),
    ("xml", f"<db><password>{S}</password></db>"),
    ("xml-attribute", f'<property name="password" value="{S}"/>'),
    ("ruby", f"user_password => '{S}'"),
    ("toml-triple", f'password = """{S}"""'),
    ("to-string", f"DataSource(user=bob, password={S}, pool=10)"),
    ("map", f"{{password={S}, user=bob}}"),
    ("azure", f"DefaultEndpointsProtocol=https;AccountName=x;AccountKey={S}==;EndpointSuffix=core"),
    ("service-bus", f"SharedAccessKeyName=Root;SharedAccessKey={S}="),
    ("refresh", f"refresh_token={S}"),
    ("form", f"grant_type=password&username=a&password={S}&scope=x"),
    ("percent-encoded", f"body=password%3D{S}"),
    ("wide-spacing", f"password       =      {S}"),
    # proxies and servers
    ("nginx-header", f'proxy_set_header Authorization "Basic {S}==";'),
    ("nginx-cookie", f'proxy_set_header Cookie "session={S}";'),
    ("yaml-header-pair", f"- name: Authorization\n  value: Bearer {S}"),
    ("redis-requirepass", f"requirepass {S}"),
    ("redis-masterauth", f"masterauth {S}"),
    ("redis-rename", f"rename-command CONFIG {S}"),
    ("redis-acl", f"ACL SETUSER app on >{S} allkeys"),
    ("redis-cli", f"redis-cli -h cache -a {S} ping"),
    ("sentinel", f"sentinel auth-pass mymaster {S}"),
    ("netrc", f"machine example.org login app password {S}"),
    ("haproxy-stats", f"stats auth admin:{S}"),
    ("haproxy-user", f"user app insecure-password {S}"),
    ("ldap", f"bindpw {S}"),
    ("openssl", f'openssl x509 -req -passin "pass:{S}"'),
    ("powershell", f'ConvertTo-SecureString "{S}" -AsPlainText'),
    # keys of other files
    ("hadoop-key", f"fs.s3a.secret.key={S}"),
    ("hadoop-xml", f"<name>fs.s3a.secret.key</name><value>{S}</value>"),
    ("xml-next-line", f"<apiToken>\n    {S}\n</apiToken>"),
    ("helm-default", f'password: {{{{ .Values.db.password | default "{S}" }}}}'),
    ("helm-default-alone", f'url: {{{{ .Values.redis.password | default "{S}" }}}}'),
    ("helm-default-first", f'url: {{{{ default "{S}" .Values.redis.password }}}}'),
    ("key-in-brackets", f"[fs.s3a.secret.key].value = {S}"),
    ("secret-manifest-flow", f"kind: Secret\ndata: {{a: {S}, b: '{S}2'}}"),
    ("shell-default", f"password: ${{DB_PASSWORD:-{S}}}"),
    ("kubeconfig-key", f"client-key-data: {S}{S}"),
    ("kubeconfig-token", f"users:\n- name: a\n  user:\n    token: {S}"),
    ("secret-manifest", f"apiVersion: v1\nkind: Secret\ndata:\n  url: {S}\n  other: |\n    {S}2\ntype: Opaque"),
    ("secret-manifest-late-kind", f"stringData:\n  a.conf: {S}\nkind: Secret"),
    ("secret-manifest-json", f'{{"kind":"Secret","data":{{"url":"{S}"}}}}'),
    ("secret-manifest-applied", f'{{\\"data\\":{{\\"url\\":\\"{S}\\"}},\\"kind\\":\\"Secret\\"}}'),
    ("secret-manifest-in-list", f"items:\n- kind: Secret\n  data:\n    url: {S}\n- kind: ConfigMap"),
    ("jdbc-user", f"jdbc:mysql://db/shop?user=app&pwd={S}"),
    # code
    ("typed", f'val password: String = "{S}"'),
    ("argument", f'System.setProperty("DB_PASSWORD", "{S}")'),
    ("define", f'#define DB_PASSWORD "{S}"'),
    ("call-default", f'password = os.environ.get("PASSWORD") or "{S}"'),
    ("reversed", f'if ("{S}" == password) {{'),
    ("conditional", f'API_TOKEN ?= "{S}"'),
    ("sql", f"CREATE USER app IDENTIFIED BY '{S}';"),
    ("sql-postgres", f"ALTER ROLE app WITH PASSWORD '{S}'"),
    ("html-escaped", f"alert(&quot;password:{S}&quot;)"),
    ("curl-option", f'curl_easy_setopt(h, CURLOPT_PASSWORD, "{S}");'),
    ("argument-list", f'["tool", "--password", "{S}"]'),
    ("sql-set", f"SET PASSWORD FOR 'app'@'%' = '{S}'"),
    ("behind-an-escape", f"first line\\napi_key={S}"),
    # prose
    ("prose", f"my password is {S}, by the way"),
    ("prose-quoted", f"the password for app was set to '{S}'"),
    ("prose-token", f"the token: {S}"),
    ("prose-word", "the password is hunter-s3cr3tV4lue9X"),
    ("pw", f"ssh app@10.0.0.7 pw:{S}"),
    # another appearance in the same text
    ("echo", f"password={S} was refused; tried {S} again"),
]


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in PLANTED])
def test_a_planted_secret_vanishes_and_the_line_count_stays(text: str) -> None:
    found = redact(text)
    assert S not in found
    assert "90210451" not in found
    assert "hidden:" in found
    assert found.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param(name, prefix + text + suffix, id=f"{name}{number}")
        for name, text in PLANTED
        if "\n" not in text and not text.startswith(("DB_", "MYSQL", "SECRET", "password", "jwt"))
        for number, (prefix, suffix) in enumerate([("2026-11-22 INFO [main] ", " in 12 ms"), ("    ", "\r")])
    ],
)
def test_it_vanishes_inside_a_log_line_too(name: str, text: str) -> None:
    assert S not in redact(text), name


@pytest.mark.parametrize(
    "token",
    [
        JWT,
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "a1B2" * 9,
        "github_pat_" + "a1B2c3D4" * 6,
        "glpat-" + "a1B2c3D4e5F6g7H8i9J0",
        "xoxb-1234567890-abcdefghij",
        "sk-" + "a1B2c3D4" * 5,
        "sk_live_" + "a1B2c3D4" * 3,
        "AIza" + "a1B2c3D" * 5,
        "npm_" + "a1B2c3" * 6,
        "hvs." + "a1B2c3D4" * 4,
        "SG." + "a1B2c3D4" * 2 + "." + "a1B2c3D4" * 5,
        "$2a$10$" + "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"[:53],
    ],
    ids=lambda token: token[:9],
)
def test_a_documented_token_format_is_found_anywhere(token: str) -> None:
    for text in (token, f"user said ({token}) twice", f'"{token}",', f"x={token}", f"a\\n{token}", f"q%20{token}"):
        assert token not in redact(text)


@pytest.mark.parametrize(
    "margin", [pytest.param("", id="plain"), pytest.param("    ", id="yaml"), pytest.param("+    ", id="diff")]
)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut"])
def test_a_private_key_vanishes_and_keeps_its_lines(margin: str, whole: bool) -> None:
    text = f"{margin}tls.key: |\n{margin}" + PEM.format(margin) + f"\n{margin}other: 1"
    text = text if whole else text[: text.index("-----END")]
    found = redact(text)
    assert "PLANTEDKEYBODY" not in found and "MIIE" not in found
    assert found.count("\n") == text.count("\n")
    if whole:
        assert found.endswith("other: 1")


def test_a_private_key_on_one_line_vanishes() -> None:
    text = '{"private": "' + PEM.format("").replace("\n", "\\n") + '", "id": 7}'
    found = redact(text)
    assert "PLANTEDKEYBODY" not in found
    assert found.endswith('", "id": 7}')


@pytest.mark.parametrize(
    "text",
    [
        "token.ttl: 30m",
        "token-timeout: PT30M",
        "auth.token.expiry.minutes: 90",
        "session.timeout=24h",
        "server.servlet.session.timeout: 24h",
        "server.servlet.session.cookie.max-age=3600",
        "session.cookie.name=JSESSIONID",
        "cookie.secure: true",
        "password.min-length: 12",
        "passwordEncoder: bcrypt",
        "token_url=https://example.org/oauth",
        "max_tokens: 128000",
        "tokens: 4096",
        "tokens_issued_total 55",
        'jvm_memory_used_bytes{area="heap",id="G1 Old Gen"} 4.12e+08',
        "hikaricp_connections_active 12",
        "commit 3a80e0d5f6f072c89b8d6812e3f29d6929eac779",
        f"image: shop/checkout@sha256:{HEX64}",
        "version: 1.2.3-SNAPSHOT",
        "-Xmx512m -XX:MaxRAMPercentage=75.0",
        "tests passed: all of them",
        "bypass: enabled",
        "tokenizer: standard",
        "secretName: checkout-tls",
        "imagePullSecrets:\n- name: regcred\n",
        "volumes:\n- secret:\n    secretName: x\n",
        "secretKeyRef:\n  name: db\n  key: password\n",
        "automountServiceAccountToken: false",
        "password: ${DB_PASSWORD}",
        "password: $DB_PASSWORD",
        "password: {{ .Values.db.password }}",
        "password: ****",
        "password: null",
        "authorization: none",
        "private-key: /etc/tls/tls.key",
        "(using password: YES)",
        "password reset for bob",
        "Unexpected token: < at position 0",
        "java.lang.OutOfMemoryError: Java heap space",
        "cache.key: user",
        "kafka.key.deserializer: org.apache.kafka.common.serialization.StringDeserializer",
        "http://127.0.0.1:9090/api/v1/query?query=up",
        "http://prometheus:9090/graph?owner=a@b",
        "git@github.com:org/repo.git",
        "ssh://git@example.org/x.git",
        "Author: Alice <alice@example.org>",
        "x-request-id: 8f14e45fceea167a5a36dedd4bea2543",
        "signature: invalid",
        "PWD=/srv/app",
        "2026-11-22T08:16:56.123Z GC(12) Pause Young 60M->30M(96M) 3.2ms",
    ],
)
def test_what_is_no_secret_survives(text: str) -> None:
    assert redact(text) == text


def test_equal_secrets_stay_equal_in_every_form() -> None:
    forms = [
        f"password: {S}",
        f'{{"password": "{S}"}}',
        f"https://u:{S}@h/",
        f"-Dpassword={S} -X",
        f"<password>{S}</password>",
    ]
    masks = {re.search(r"‹hidden:[0-9a-f]{8}›", redact(text))[0] for text in forms}  # type: ignore[index]
    assert masks == {mask(S)}
    assert mask(S) != mask(S + "2")


def test_only_the_secret_is_hidden() -> None:
    assert redact(f"jdbc:postgresql://db:5432/shop?user=app&password={S}&ssl=true").replace(mask(S), "#") == (
        "jdbc:postgresql://db:5432/shop?user=app&password=#&ssl=true"
    )
    assert (
        redact(f"DataSource(user=bob, password={S}, pool=10)") == f"DataSource(user=bob, password={mask(S)}, pool=10)"
    )
    assert redact(f"https://app:{S}@example.org:8443/x?y=z") == f"https://app:{mask(S)}@example.org:8443/x?y=z"
    assert redact(f"password: {S}  # rotated in May") == f"password: {mask(S)}  # rotated in May"


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("spring.datasource.password", True),
        ("DB_PASSWORD", True),
        ("data.dbPassword", True),
        ("clientSecret", True),
        ("spec.template.spec.containers[checkout].env[DB_PASSWORD].value", True),
        ("stripe.api-key", True),
        ("redis.auth.password.value", True),
        ("secrets.database", True),
        ("jwt.signing.key", True),
        ("server.servlet.session.timeout", False),
        ("token.ttl", False),
        ("jwt.token.expiration-seconds", False),
        ("passwordPolicy.min-length", False),
        ("volumes[0].secret.secretName", False),
        ("cache.key", False),
        ("spec.replicas", False),
        ("", False),
        ("...", False),
    ],
)
def test_a_key_names_a_secret_or_not(key: str, secret: bool) -> None:
    assert is_secret_key(key) is secret
    assert (redact_value(key, "Xk29vv-Qa7") == "Xk29vv-Qa7") is not secret


@pytest.mark.parametrize("value", ["", "true", "${VAULT_PASSWORD}", "null", "30m", mask(S)])
def test_a_value_that_is_no_secret_stays_under_a_secrets_key(value: str) -> None:
    assert redact_value("db.password", value) == value


def test_a_value_is_cleaned_as_text_under_another_key() -> None:
    assert S not in redact_value("JAVA_OPTS", f"-Xmx512m -Ddb.password={S}")
    assert redact_value("JAVA_OPTS", "-Xmx512m -XX:+UseG1GC") == "-Xmx512m -XX:+UseG1GC"


@given(st.text(max_size=400))
@example(f"password: {S} → {S}")
@example("https://u:‹@h/")
def test_any_text_is_redacted_and_a_second_time_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once
    assert once.count("\n") == text.count("\n")


_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#%*+-./_~"


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["password", "db.password", "API_KEY", "clientSecret", "access-token", "DB_PASSWD"]),
    st.sampled_from(
        ['{0}: "{1}"', "{0}: '{1}'", "{0}={1}", "x {0}={1}", '{{"{0}":"{1}"}}', "export {0}={1}\n", "<{0}>{1}</{0}>"]
    ),
    st.text(_ALPHABET, min_size=8, max_size=40).filter(
        lambda t: any(c.isalpha() for c in t) and any(c.isdigit() for c in t)
    ),
)
def test_any_long_value_behind_a_secrets_name_vanishes(key: str, form: str, secret: str) -> None:
    secret = "Zq" + secret + "7Z"  # neither a path nor a size
    assert secret not in redact(form.format(key, secret))


def test_text_beyond_the_bound_is_cut() -> None:
    found = redact("x " * (TEXT_CHARACTERS_MAX // 2) + f"password={S}")
    assert TEXT_CHARACTERS_MAX - 10 <= len(found) <= TEXT_CHARACTERS_MAX
    word = redact("x" * (TEXT_CHARACTERS_MAX - 20) + " ghp_" + "a1B2" * 9)
    assert "ghp_" not in word  # half a token is known to no rule
    cut = redact("x" * (TEXT_CHARACTERS_MAX - 14) + f" password={S}")
    assert "s3cr" not in cut


@pytest.mark.parametrize(
    "unit",
    [
        "password=", "pass ", "password:\n  ", "password: |\n  a\n", "token=a1b2c3 ", "tokens: [", "--token ", "<password>",
        "-----BEGIN A-----", "-----BEGIN RSA KEY-----\n", "a://b:", "https://u:@", "authorization: ", "cookie: a=", "password='\\",
        "eyJ", "eyJabcdefghij.", "mysql ", "thin:", "$6$", "-_.-", "a.token/", " ", "key", "İ",
        "pw ", "password is ", "kind: Secret\ndata:\n", "kind: Secret\ndata:\n  a: b\n---\n", '"kind":"Secret","data":{', '{\\"kind\\":\\"Secret\\",', "requirepass ",
        "kind: Secret\ndata: {a: b, c: d}\n", "identified by ", '{{ default "', '"abcd" == ', "aB3d", "M.a.", "login a password ", "acl setuser ", "stats auth ", "bearer ", "set password for ",
        "password(", 'getenv("', "password: String = ", "%20token", "</name><value>", "password=aB3dE5fG7 ", "ghp_", "1234567890:A", "#define secret ", "cookie value",
    ],
)  # fmt: skip
def test_hostile_text_takes_time_in_proportion_to_its_length(unit: str) -> None:
    def seconds(characters: int) -> float:
        text = (unit * (characters // len(unit) + 1))[:characters]
        begin = time.process_time()
        redact(text)
        return time.process_time() - begin

    small = max(min(seconds(25_000) for _ in range(2)), 0.002)
    assert seconds(100_000) < 12 * small + 0.1  # four times as long; the square would take sixteen times as long


def test_a_megabyte_of_hostile_text_takes_seconds_at_most() -> None:
    text = "token=a1b2c3 password='\\ https://u:x@h -----BEGIN A----- eyJ. " * 16_000
    begin = time.process_time()
    redact(text[:1_000_000])
    assert time.process_time() - begin < 5.0


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("base64", lambda s: base64.b64encode(s.encode()).decode()),
        ("base64 of more", lambda s: base64.b64encode(f"app:{s}".encode()).decode()),
        ("base64 for URLs", lambda s: base64.urlsafe_b64encode(f"u:{s}??".encode()).decode()),
        ("hexadecimal", lambda s: s.encode().hex()),
        ("URL", lambda s: quote(s, safe="")),
        ("JSON", lambda s: json.dumps(s)[1:-1]),
    ],
)
def test_a_secret_found_once_is_hidden_where_it_is_encoded_too(name: str, encode: Callable[[str], str]) -> None:
    secret = 'pa"ss/w0rd+Zq\\9&x'
    text = f"{json.dumps({'password': secret})} sent as [{encode(secret)}]"
    found = redact(text)
    core = base64.b64encode(secret.encode()).decode()[4:-6]
    assert encode(secret) not in found and core not in found


def test_a_password_that_is_a_word_does_not_take_the_word_with_it() -> None:
    assert redact("password: checkout\nservice: checkout\n").endswith("service: checkout\n")


@pytest.mark.parametrize(
    "text",
    [
        "password is required", "the password is expired.", "token is invalid", "Password: ", "secret is not set", "api key is missing",
        "the token was rejected by the server", "password is too short", "passwords are hashed", "access key is AccessDenied()",
        "rename-command KEYS \"\"", "requirepass ${REDIS_PASSWORD}", "proxy_set_header Authorization $http_authorization;",
        "proxy_set_header Authorization \"\";", "password: {{ .Values.db.password | quote }}",
        "kind: Secret\ndata:\n  url: ${DB_URL}", "kind: SecretStore\nspec:\n  data: {}", "kind: ConfigMap\ndata:\n  log.level: debug",
        "partition.key: customer_id", "cache key: user:42", "sort_key=created_at", "public_key: 302a300506032b6570032100",
        "checkout-7d9f8b6c5-x2x4z", "container_1445144423722_0020_01_000002", "integrity sha512-" + "aB3dE5" * 14 + "==",
        "trace_id=4bf92f3577b34da6a3ce929d0e0e4736", "blk_-1608999687919862906", "8f14e45f-ceea-467a-9a36-dedd4bea2543",
        "org.springframework.beans.factory.UnsatisfiedDependencyException2ndTry", "/var/lib/docker/overlay2/x/merged/usr/lib/jvm/Temurin17Hotspot",
        "login: alice", "client=10.0.0.7:41234", "author: alice", "key: checkout", "ORDER_KEY=created", "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
        "if (a == secretCount) {", "password_file: /run/secrets/db",
        "Pass `wrap=True` to the function", "pass 'strict' where", "password_encryption = scram-sha-256", "key = secrets['openai']",
        "api_key=st.secrets[\"openai_key\"]", "# -Dx.keyStorePassword=<keystore-password>\n# x.trustStore=<truststore>",
    ],
)  # fmt: skip
def test_words_about_secrets_and_names_without_one_survive(text: str) -> None:
    assert redact(text) == text


def test_a_fault_in_a_rule_hides_the_whole_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*arguments: object) -> str:
        raise RuntimeError("a rule broke")

    monkeypatch.setattr(redaction, "without_named", fault)
    found = redact(f"first password={S}\n\nthird line")
    assert S not in found and "first" not in found and "third" not in found
    assert found.count("\n") == 2


def test_masks_follow_the_key_and_come_back_without_it() -> None:
    plain = mask(S)
    try:
        use_key(b"of this installation")
        keyed = mask(S)
        assert keyed != plain and keyed == mask(S)
        assert redact(f"password={S}") == f"password={keyed}"
        assert redact(f"password={plain}") == f"password={plain}"  # what a bundle carries stays as it is
        use_key(b"of another one")
        assert mask(S) != keyed
    finally:
        use_key(None)
    assert mask(S) == plain


def test_every_documented_format_can_be_compiled() -> None:
    for number in range(len(formats._FORMATS)):
        formats._format(number)


@pytest.mark.parametrize(
    "key", ["[fs.s3a.secret.key].value", "fs.s3a.access.key", "db.password.value", "AES_KEY", "user_pw"]
)
def test_a_key_that_ends_in_a_neutral_word_is_judged_by_what_stands_before(key: str) -> None:
    assert is_secret_key(key)


@pytest.mark.parametrize(
    "key", ["partition.key", "public.key.value", "cache.key.prefix", "bearer_token_env", "sort.key.value"]
)
def test_a_key_that_finds_something_is_no_secret(key: str) -> None:
    assert not is_secret_key(key)


def test_the_data_of_a_secret_is_masked_by_its_scope_whatever_its_key_says() -> None:
    assert redact_value("data.entry-1", "Xk29vvQa", "Secret/db") == mask("Xk29vvQa")
    assert redact_value("data.entry-1", "Xk29vvQa", "ConfigMap/db") == "Xk29vvQa"
    assert redact_value("metadata.name", "Xk29vvQa", "Secret/db") == "Xk29vvQa"


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_an_answer_that_comes_in_pieces_is_told_without_secrets_and_whole(size: int) -> None:
    answer = f"the heap grew\npassword: |\n  {S}\nand the token: {S}\nlast line with password={S}"
    heard: list[str] = []
    pieces = RedactedPieces(lambda event: heard.append(event.text))
    for at in range(0, len(answer), size):
        pieces(ConversationEvent(kind="text", text=answer[at : at + size]))
    pieces(ConversationEvent(kind="tool_begin", text=f"password={S}", tool="show"))
    assert S not in "".join(heard)
    assert "".join(heard) == redact(answer) + redact(f"password={S}")


def test_a_long_answer_in_pieces_stays_whole() -> None:
    heard: list[str] = []
    pieces = RedactedPieces(lambda event: heard.append(event.text))
    for n in range(700):
        pieces(ConversationEvent(kind="text", text=f"line {n}\n"))
    pieces.finish()
    assert "".join(heard) == "".join(f"line {n}\n" for n in range(700))
