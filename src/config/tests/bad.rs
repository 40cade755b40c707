//! Bad input → what the error says. Each case: the file, its line (0: none), and fragments of the message.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use super::*;

type Case<'a> = (&'a str, usize, &'a [&'a str]);

fn check(cases: &[Case<'_>]) {
    for (text, line, fragments) in cases {
        let error = load_text(text).map(|_| ()).expect_err(text);
        let message = error.to_string();
        let place = if *line == 0 { "f.yaml: ".to_owned() } else { format!("f.yaml:{line}: ") };
        assert!(message.starts_with(&place), "{text}\n→ {message}");
        for fragment in *fragments {
            assert!(message.contains(fragment), "{text}\n→ {message}\nlacks {fragment}");
        }
        assert!(!message.contains("s3cret"), "{text}\n→ {message}");
    }
}

fn check_server(cases: &[Case<'_>]) {
    for (more, line, fragments) in cases {
        check(&[(&server_with(more), line + 2, fragments)]);
    }
}

fn check_client(cases: &[Case<'_>]) {
    for (more, line, fragments) in cases {
        check(&[(&client_with(more), line + 2, fragments)]);
    }
}

#[test]
fn text_that_is_no_yaml_mapping() {
    check(&[
        ("", 0, &["empty", "mode: server"]),
        ("# nothing\n", 0, &["empty"]),
        ("---\n", 0, &["empty"]),
        ("hello", 0, &["key: value"]),
        ("- a\n", 0, &["key: value"]),
        ("mode: server\n\tmcp: x\n", 2, &["not valid YAML", "spaces"]),
        ("mode: [server\n", 2, &["not valid YAML"]),
        ("mode: server\n---\nmode: client\n", 2, &["more than one YAML document"]),
        ("mode: server\nmode: client\n", 2, &["mode: the key stands here twice"]),
        ("mode: server\ntls:\n  fips: off\n  fips: off\n", 4, &["tls.fips: the key stands here twice"]),
        ("mode: !x server\n", 1, &["tag"]),
        ("mode: server\nauth: {bearer: {tokens: [!!int s3cret]}}\n", 2, &["does not fit"]),
        ("mode: *nothing\n", 1, &["unknown anchor"]),
        ("? [a]\n: b\n", 1, &["does not fit"]),
    ]);
}

#[test]
fn aliases_that_explode_are_refused_quickly() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(9);
        writeln!(laughs, "a{level}: &a{level} [{below}]").unwrap();
    }
    let wide = format!("a: &a [{}]\nb: [{}]\n", "x, ".repeat(5000), "*a, ".repeat(5000));
    let deep = format!("a: {}{}\n", "[".repeat(500), "]".repeat(500));
    let mut many = String::new();
    for key in 0..90_000 {
        writeln!(many, "k{key}: x").unwrap();
    }
    for text in [laughs, wide, deep, many] {
        let start = Instant::now();
        let message = load_text(&text).unwrap_err().to_string();
        assert!(message.contains("repeat too much") || message.contains("nested too deeply"), "{message}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[test]
fn unknown_keys_get_the_nearest_one() {
    check(&[
        ("mdoe: server\n", 1, &["mdoe: unknown key; did you mean 'mode'?"]),
        (
            "mode: server\n\nserver:\n  listne: x\n",
            4,
            &["server.listne: unknown key; did you mean 'server.listen'?"],
        ),
        ("mode: server\nserver:\n  command: x\n", 3, &["server.command", "did you mean 'mcp.command'?"]),
        ("mode: server\nserver:\n  tokens: x\n", 3, &["did you mean 'auth.bearer.tokens'?"]),
        ("mode: server\nserver:\n  session_timeout: 1s\n", 3, &["did you mean 'server.session.timeout'?"]),
        ("mode: server\ntls:\n  certFile: x\n", 3, &["did you mean 'tls.cert_file'?"]),
        ("mode: server\nloging: {level: info}\n", 2, &["did you mean 'logging'?"]),
        ("mode: server\nlisten: ':80'\n", 2, &["'server.listen' or 'metrics.listen'"]),
        ("mode: server\nmetrics:\n  qqqqqqqq: 1\n", 3, &["'metrics' has listen"]),
        ("mode: server\nserver.listen: ':80'\n", 2, &["\"server.listen\": unknown key", "not by dots"]),
        ("mode: server\nserver: 5\n", 2, &["server: expected keys beneath it, found a number"]),
        ("mode: server\nauth: {oauth: {}}\n", 2, &["auth.oauth", "not offered"]),
        ("mode: server\n<<: {a: b}\n", 2, &["merge keys"]),
    ]);
}

#[test]
fn the_mode_must_be_there_and_fit() {
    check(&[
        ("server: {listen: ':80'}\n", 0, &["mode: missing", "mode: server", "mcp-bridge connect"]),
        ("mode: proxy\n", 1, &["mode: \"proxy\" is none of server, client"]),
        ("mode:\n", 1, &["mode: has no value"]),
        ("mode: server\n", 0, &["mcp.command: missing"]),
        ("mode: server\nmcp:\n  args: [a]\n", 2, &["mcp.command: missing"]),
        ("mode: client\n", 0, &["client.url: missing", "https://"]),
        ("mode: client\nclient: {timeout: 1s}\n", 2, &["client.url: missing"]),
    ]);
    let error = load_as("mode: client\n", Some(Mode::Server)).unwrap_err().to_string();
    assert!(error.starts_with("f.yaml:1: mode: is client, but the subcommand is `serve`"), "{error}");
    assert!(load_as("mcp: {command: x}", Some(Mode::Server)).is_ok());
}

#[test]
fn keys_of_the_other_mode_are_refused() {
    check_server(&[
        ("tls:\n  ca_cert: x\n", 2, &["tls.ca_cert: belongs to `mode: client`", "'tls.client_ca_file'"]),
        ("tls:\n  insecure_skip_verify: true\n", 2, &["`mode: client`", "remove it"]),
        ("client:\n  url: https://h/\n", 1, &["client: belongs to `mode: client`"]),
        ("auth:\n  bearer:\n    token: s3cret\n", 3, &["auth.bearer.token:", "'auth.bearer.tokens'"]),
    ]);
    check_client(&[
        (
            "tls:\n  client_ca_file: x\n",
            2,
            &["tls.client_ca_file: belongs to `mode: server`", "'tls.ca_cert'"],
        ),
        ("server:\n  listen: ':80'\n", 1, &["server: belongs to `mode: server`, but this is `mode: client`"]),
        ("mcp:\n  command: x\n", 2, &["mcp.command: belongs to `mode: server`"]),
        ("mcp:\n  protocol: auto\n", 2, &["mcp.protocol", "'client.protocol'"]),
        ("auth:\n  bearer:\n    tokens: [s3cret]\n", 3, &["auth.bearer.tokens:", "'auth.bearer.token'"]),
    ]);
}

#[test]
fn values_of_the_wrong_type() {
    check_server(&[
        ("server:\n  listen: 8080\n", 2, &["server.listen: \"8080\" has no port", ":8443"]),
        ("server:\n  listen:\n", 2, &["server.listen: has no value"]),
        ("server:\n  path: [a]\n", 2, &["server.path: expected one value, found a list"]),
        ("server:\n  path: ''\n", 2, &["server.path: is empty"]),
        ("server:\n  path: mcp\n", 2, &["server.path: \"mcp\" must start with a slash"]),
        ("server:\n  path: /health\n", 2, &["server.path: \"/health\" is a path of the bridge's own"]),
        ("server:\n  path: /ready\n", 2, &["bridge's own"]),
        ("server:\n  path: /sse\n", 2, &["bridge's own"]),
        ("server:\n  path: /messages\n", 2, &["bridge's own"]),
        ("server:\n  allow_insecure: perhaps\n", 2, &["\"perhaps\" is neither true nor false"]),
        ("server:\n  socket_mode: rw\n", 2, &["server.socket_mode: \"rw\" is no mode"]),
        ("server:\n  socket_mode: 0600\n", 2, &["server.socket_mode: has no effect"]),
        ("server:\n  max_connections: lots\n", 2, &["\"lots\" is not a number from 1 to 1000000"]),
        ("server:\n  max_connections: 0\n", 2, &["not a number from 1"]),
        ("server:\n  max_connections: 1.5\n", 2, &["not a number from 1"]),
        ("server:\n  max_header_size: 1KiB\n", 2, &["out of bounds: from 8192"]),
        ("server:\n  max_body_size: 10MB\n", 2, &["unknown unit", "10MiB"]),
        ("server:\n  read_timeout: 30\n", 2, &["server.read_timeout: \"30\" has no unit", "30s"]),
        ("server:\n  read_timeout: 0\n", 2, &["more than zero"]),
        ("server:\n  read_timeout: -5s\n", 2, &["is negative"]),
        ("server:\n  allowed_hosts: h\n", 2, &["expected a list, found text"]),
        ("server:\n  allowed_hosts: []\n", 2, &["empty list"]),
        (
            "server:\n  allowed_hosts:\n    - h\n    - h:80\n",
            4,
            &["server.allowed_hosts[1]: \"h:80\" must be", "port"],
        ),
        ("server:\n  allowed_origins: ['https://h/']\n", 2, &["server.allowed_origins[0]", "not an origin"]),
        ("tls:\n  cert_file: 12\n", 2, &["expected text, found a number; put it in quotes"]),
        ("tls:\n  min_version: 1.4\n", 2, &["\"1.4\" is none of 1.0, 1.1, 1.2, 1.3"]),
        ("tls:\n  fips: true\n", 2, &["is none of off, required"]),
        ("tls:\n  cipher_suites: A:B\n", 2, &["expected a list"]),
        ("tls:\n  client_auth: verfy\n", 2, &["did you mean verify?"]),
        ("logging:\n  level: loud\n", 2, &["is none of debug, info, warn, error"]),
        ("metrics:\n  listen: example.com:9\n", 2, &["metrics.listen", "not an IP address"]),
        ("server: {path: \"/a\\0b\"}\n", 1, &["NUL"]),
    ]);
}

#[test]
fn secrets_stay_out_of_errors() {
    check_server(&[
        ("auth: {type: bearer, bearer: {tokens: s3cret}}\n", 1, &["auth.bearer.tokens: expected a list"]),
        (
            "auth: {type: bearer, bearer: {tokens: [[s3cret]]}}\n",
            1,
            &["auth.bearer.tokens[0]: expected one value"],
        ),
        (
            "auth: {type: bearer, bearer: {tokens: [{s3cret: x}]}}\n",
            1,
            &["auth.bearer.tokens[0]: expected one"],
        ),
        ("auth: {type: bearer, bearer: {tokens: [12]}}\n", 1, &["expected text, found a number"]),
        ("auth: {type: bearer, bearer: {tokens: ['s3cret word']}}\n", 1, &["white space"]),
        ("auth: {type: bearer, bearer: {tokens: [\"s3cret\\n\"]}}\n", 1, &["white space", "line end"]),
        ("auth: {type: bearer, bearer: {tokens: ['sha256:s3cret']}}\n", 1, &["64 hexadecimal digits"]),
        ("auth: {type: bearer, bearer: {tokens: ['s3cret${']}}\n", 1, &["without a `}`"]),
        ("auth: {type: bearer, bearer: {tokens: ['x$s3cret']}}\n", 1, &["$$NAME"]),
        ("server: {read_timeout: '${SECRET}'}\n", 1, &["\"${SECRET}\" is not a duration"]),
        ("mcp_server: {}\nlog: s3cret\n", 1, &["said twice"]),
    ]);
    check_client(&[
        ("auth: {type: bearer, bearer: {token: [s3cret]}}\n", 1, &["auth.bearer.token: expected one value"]),
        (
            "auth: {type: bearer, bearer: {token: '${SECRET}'}}\n",
            1,
            &["auth.bearer.token: the value holds white"],
        ),
        (
            "auth: {type: bearer, bearer: {token_env: SECRET}}\n",
            1,
            &["auth.bearer.token_env: names a variable whose value holds white"],
        ),
    ]);
    // The token itself, where its variable's name should stand.
    check_client(&[("auth: {type: bearer, bearer: {token_env: s3cret}}\n", 1, &["is not set"])]);
    check(&[
        ("mode: client\nclient: {url: 'https://me:s3cret@h/'}\n", 2, &["client.url: the value holds a user"]),
        ("mode: client\nclient: {url: 'https://h/', proxy: 'socks://u:s3cret@p:1'}\n", 2, &["client.proxy"]),
        (
            "mode: client\nclient: {url: 'https://h/', headers: {x: \"s3cret\\n\"}}\n",
            2,
            &["client.headers.x"],
        ),
    ]);
}

#[test]
fn variables_must_be_set() {
    check_server(&[
        ("server:\n  path: /${NOT_SET}\n", 2, &["server.path: the environment variable NOT_SET is not set"]),
        ("mcp_server:\n  args: [a]\n", 1, &["said twice"]),
        ("server:\n  path: /$HOME\n", 2, &["write ${NAME} for the variable"]),
    ]);
}

#[test]
fn metrics_need_an_address_of_their_own() {
    let both = |server: &str, metrics: &str| {
        server_with(&format!(
            "server: {{listen: '{server}', allow_insecure: true}}\nmetrics:\n  listen: '{metrics}'\n"
        ))
    };
    for (server, metrics) in [
        ("127.0.0.1:9", "127.0.0.1:9"),
        ("127.0.0.1:9", "localhost:9"),
        ("localhost:9", "127.0.0.1:9"),
        ("127.0.0.1:9", "0.0.0.0:9"),
        ("127.0.0.1:9", ":9"),
        (":9", "[::1]:9"),
        ("[::]:9", "127.0.0.1:9"),
        ("0.0.0.0:9", "127.0.0.1:9"),
    ] {
        check(&[(&both(server, metrics), 5, &["metrics.listen: collides with 'server.listen'", server])]);
    }
    for (server, metrics) in [
        ("127.0.0.1:9", "127.0.0.1:8"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:9", "127.0.0.2:9"),
        ("127.0.0.1:9", "[::1]:9"),
        ("0.0.0.0:9", "[::1]:9"),
        ("unix:/s", ":9"),
    ] {
        assert!(load_text(&both(server, metrics)).is_ok(), "{server} {metrics}");
    }
    check_server(&[("metrics: {listen: '127.0.0.1:8080'}\n", 1, &["'server.listen'", "127.0.0.1:8080"])]);
}

#[test]
fn an_open_server_is_refused() {
    let hint = &["server.listen: listens beyond loopback", "allow_insecure: true"][..];
    check_server(&[
        ("server:\n  listen: ':80'\n", 2, hint),
        ("server:\n  listen: 0.0.0.0:80\n", 2, hint),
        ("server:\n  listen: systemd\n", 2, hint),
        ("server:\n  listen: example.com:80\n", 2, hint),
        ("server: {listen: ':80'}\ntls:\n  enabled: false\n", 1, hint),
    ]);
}

#[test]
fn tls_of_a_server_must_be_complete() {
    check_server(&[
        ("tls: {enabled: true}\n", 1, &["tls.cert_file: missing"]),
        ("tls: {enabled: true, cert_file: c}\n", 1, &["tls.key_file: missing"]),
        ("tls: {enabled: true, key_file: k}\n", 1, &["tls.cert_file: missing"]),
        ("tls: {cert_file: c, key_file: k}\n", 1, &["tls.enabled: missing; set it to true"]),
        ("tls: {min_version: '1.2'}\n", 1, &["tls.enabled: missing"]),
        (
            "tls:\n  enabled: false\n  client_ca_file: a\n  client_auth: verify\n",
            4,
            &["needs `tls.enabled: true`"],
        ),
        ("tls: {enabled: true, cert_file: [a, b], key_file: k}\n", 1, &["1 keys for 2 certificates"]),
        ("tls: {enabled: true, key_password: s3cret}\n", 1, &["tls.key_file: missing; a password"]),
        ("tls: {cert_file: c, key_file: k, key_password: a, key_password_file: b}\n", 1, &["keep one"]),
    ]);
    let cases: [Case<'_>; 7] = [
        ("  client_auth: verify\n", 1, &["tls.client_ca_file: missing; `client_auth: verify`"]),
        (
            "  client_allowed_names: [CN=a]\n",
            2,
            &["tls.client_allowed_names: needs `tls.client_auth: verify`"],
        ),
        ("  crl_file: x\n", 2, &["tls.crl_file: needs 'tls.client_ca_file'"]),
        ("  min_version: '1.3'\n  max_version: '1.2'\n", 2, &["tls.min_version: is higher"]),
        ("  min_version: '1.1'\n  fips: required\n", 2, &["tls.min_version: FIPS permits"]),
        ("  reload_interval: 0s\n", 2, &["more than zero"]),
        ("  curve_preferences: ['']\n", 2, &["tls.curve_preferences[0]: is empty"]),
    ];
    for (more, line, fragments) in cases {
        let tls =
            format!("tls: {{}}\n{more}").replace("{}", "\n  enabled: true\n  cert_file: c\n  key_file: k");
        let line = if line == 1 { 1 } else { line + 4 - 1 };
        check_server(&[(&tls.replace("k\n\n", "k\n"), line, fragments)]);
    }
}

#[test]
fn tls_of_a_client_must_fit_the_url() {
    check_client(&[
        ("tls:\n  enabled: false\n", 2, &["tls.enabled: is false, but 'client.url' is https://"]),
        ("tls: {cert_file: c}\n", 1, &["tls.key_file: missing"]),
        ("tls: {cert_file: [a, b], key_file: [c, d]}\n", 1, &["a client has one certificate"]),
        ("tls: {server_name: ''}\n", 1, &["is empty"]),
        ("tls: {server_name: .example.com}\n", 1, &["starts with a dot"]),
        ("tls: {server_name: \"a\\0b\"}\n", 1, &["NUL"]),
        ("tls: {server_name: 'h:443'}\n", 1, &["without scheme or port"]),
    ]);
    let plain = "mode: client\nclient: {url: 'http://h/'}\n";
    for more in ["tls: {ca_cert: c}", "tls: {enabled: true}", "tls: {insecure_skip_verify: true}"] {
        check(&[(&format!("{plain}{more}\n"), 3, &["has no effect: 'client.url' is http://"])]);
    }
}

#[test]
fn auth_must_be_unambiguous() {
    check_server(&[
        ("auth: {type: bearer}\n", 1, &["auth.bearer.tokens: missing"]),
        ("auth: {type: bearer, bearer: {tokens: []}}\n", 1, &["empty list"]),
        ("auth: {type: bearer, bearer: {tokens: ['']}}\n", 1, &["auth.bearer.tokens[0]: is empty"]),
        ("auth:\n  bearer: {tokens: [a]}\n", 2, &["has no effect without `auth.type: bearer`"]),
        ("auth: {type: none, bearer: {tokens: [a]}}\n", 1, &["has no effect without"]),
        ("auth: {type: oauth}\n", 1, &["\"oauth\" is none of none, bearer"]),
    ]);
    check_client(&[
        ("auth: {type: bearer}\n", 1, &["no token; set one of"]),
        (
            "auth:\n  type: bearer\n  bearer:\n    token: a\n    token_file: b\n",
            5,
            &["'auth.bearer.token' is set too"],
        ),
        (
            "auth: {type: bearer, bearer: {token_env: NOT_SET}}\n",
            1,
            &["auth.bearer.token_env: names a variable that is not set"],
        ),
    ]);
}

#[test]
fn the_rest_of_a_server() {
    check_server(&[
        ("server: {cors: {allowed_methods: [GET]}}\n", 1, &["server.cors.allowed_origins: missing"]),
        (
            "server:\n  cors:\n    allowed_origins: ['*']\n    allow_credentials: true\n",
            4,
            &["server.cors.allow_credentials", "`*`"],
        ),
        ("server: {cors: {allowed_origins: ['*', 'https://a']}}\n", 1, &["allows every origin"]),
        ("server: {cors: {allowed_origins: ['*'], allowed_methods: [get]}}\n", 1, &["allowed_methods[0]"]),
        ("server: {sse_keepalive_interval: 0}\n", 1, &["more than zero"]),
        ("server: {session: {timeout: 0}}\n", 1, &["more than zero"]),
    ]);
    check(&[
        ("mode: server\nmcp: {command: ''}\n", 2, &["mcp.command: is empty"]),
        ("mode: server\nmcp: {command: x, instances: 0}\n", 2, &["mcp.instances"]),
        ("mode: server\nmcp: {command: x, isolation: none}\n", 2, &["principal, request"]),
        ("mode: server\nmcp: {command: x, scheduling: fifo}\n", 2, &["batch, inherit"]),
        ("mode: server\nmcp: {command: x, env: {'A=B': c}}\n", 2, &["mcp.env.A=B", "name"]),
        ("mode: server\nmcp: {command: x, env: [A]}\n", 2, &["expected names with values, found a list"]),
        ("mode: server\nmcp:\n  command: x\n  env:\n    A:\n", 5, &["mcp.env.A: has no value"]),
    ]);
}

#[test]
fn the_rest_of_a_client() {
    check_client(&[(
        "logging:\n  output: stdout\n",
        2,
        &["logging.output: \"stdout\" carries the protocol in client mode"],
    )]);
    let cases: [(&str, &[&str]); 12] = [
        ("retry: {multiplier: 0.5}", &["client.retry.multiplier", "from 1"]),
        ("retry: {multiplier: .nan}", &["client.retry.multiplier"]),
        ("retry: {initial_delay: 20s}", &["client.retry.initial_delay", "longer than the longest"]),
        ("connect_timeout: 0s", &["more than zero"]),
        ("max_request_time: 0", &["more than zero"]),
        ("headers: {Host: a}", &["client.headers.Host: the header host can't be set"]),
        ("headers: {mcp-session-ID: a}", &["transport sets it"]),
        ("headers: {Transfer-Encoding: a}", &["transport sets it"]),
        ("headers: {Mcp-Param-X: a}", &["transport sets it"]),
        ("headers: {'a b': c}", &["name that is not a header's"]),
        ("headers: {a: b, A: c}", &["client.headers.A", "twice"]),
        ("headers: {a: é}", &["printable ASCII"]),
    ];
    for (more, fragments) in cases {
        check(&[(&format!("mode: client\nclient:\n  url: https://h/\n  {more}\n"), 4, fragments)]);
    }
    check(&[
        (
            "mode: client\nclient: {url: 'https://h/', headers: {Authorization: s3cret}}\n\
             auth: {type: bearer, bearer: {token: x}}\n",
            2,
            &["beside `auth`"],
        ),
        (
            "mode: client\nclient: {url: 'https://h/', max_request_time: 1h}\nmcp: {max_request_time: 2h}\n",
            3,
            &["mcp.max_request_time: is said twice"],
        ),
        ("mode: client\nclient: {url: 'https://h/#x'}\n", 2, &["fragment"]),
        (
            "mode: client\nclient:\n  url: https://h/\n  protocol: modern\n  transport: sse\n",
            5,
            &["client.transport: is sse", "'client.protocol' is modern"],
        ),
        ("mode: client\nclient: {url: 'file:///x'}\n", 2, &["client.url"]),
    ]);
}
