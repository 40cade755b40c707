//! `auth`: who may come in, or what is sent.

use crate::config::{
    AcceptedToken, ClientAuth, Secret, ServerAuth, error::Fault, leaf::Leaf, reader::Reader,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Bearer,
}

/// Reads `auth` of a server.
pub(super) fn server(r: &mut Reader<'_>) -> Result<ServerAuth, Fault> {
    if kind(r)? == Kind::None {
        return Ok(ServerAuth::None);
    }
    let tokens = r.list("auth.bearer.tokens")?.ok_or_else(|| {
        r.fault(
            "auth.bearer.tokens",
            "missing; list the tokens that clients may send, plain or as sha256:HEX",
        )
    })?;
    tokens.iter().map(accepted).collect::<Result<_, _>>().map(ServerAuth::Bearer)
}

/// Reads `auth` of a client.
pub(super) fn client(r: &mut Reader<'_>) -> Result<ClientAuth, Fault> {
    if kind(r)? == Kind::None {
        return Ok(ClientAuth::None);
    }
    let sources = ["auth.bearer.token", "auth.bearer.token_file", "auth.bearer.token_env"];
    let given: Vec<&str> = sources.into_iter().filter(|path| r.has(path)).collect();
    if let [first, second, ..] = given[..] {
        return Err(r.fault(second, format!("'{first}' is set too; keep one of them")));
    }
    if let Some(file) = r.path("auth.bearer.token_file")? {
        return Ok(ClientAuth::BearerFile(file));
    }
    if let Some(name) = r.text("auth.bearer.token_env")? {
        return from_variable(r, &name).map(ClientAuth::Bearer);
    }
    let token = r.text("auth.bearer.token")?.ok_or_else(|| {
        r.fault("auth.bearer", "no token; set one of 'auth.bearer.token', 'token_file' and 'token_env'")
    })?;
    check_token(&token.text).map_err(|message| token.secret_fault(message))?;
    Ok(ClientAuth::Bearer(Secret::new(token.text)))
}

/// Credentials without `type: bearer` would be left unused in silence.
fn kind(r: &mut Reader<'_>) -> Result<Kind, Fault> {
    let kind = r.choice("auth.type", &[("none", Kind::None), ("bearer", Kind::Bearer)])?;
    if r.has("auth.bearer") && kind != Some(Kind::Bearer) {
        return Err(
            r.fault("auth.bearer", "has no effect without `auth.type: bearer`; set it, or remove this")
        );
    }
    Ok(kind.unwrap_or(Kind::None))
}

/// The name is not shown: the token itself may stand there by mistake.
fn from_variable(r: &Reader<'_>, name: &Leaf<'_>) -> Result<Secret, Fault> {
    let value = r
        .variable(&name.text)
        .ok_or_else(|| name.about("names a variable that is not set in the environment; set it"))?;
    let value = value.into_string().map_err(|_| name.about("names a variable that is not UTF-8"))?;
    check_token(&value).map_err(|message| name.about(&format!("names a variable whose value {message}")))?;
    Ok(Secret::new(value))
}

fn accepted(leaf: &Leaf<'_>) -> Result<AcceptedToken, Fault> {
    if let Some(digest) = leaf.text.strip_prefix("sha256:") {
        let bytes =
            sha256(digest).ok_or_else(|| leaf.secret_fault("needs 64 hexadecimal digits after sha256:"))?;
        return Ok(AcceptedToken::Sha256(bytes));
    }
    check_token(&leaf.text).map_err(|message| leaf.secret_fault(message))?;
    Ok(AcceptedToken::Plain(Secret::new(leaf.text.clone())))
}

fn sha256(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (position, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * position..2 * position + 2], 16).ok()?;
    }
    Some(bytes)
}

/// What can't stand in an `Authorization` header could never be matched, or would break the request.
fn check_token(token: &str) -> Result<(), &'static str> {
    if token.is_empty() {
        return Err("is empty; give it a token");
    }
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(
            "holds white space or other characters that a token can't have (a line end from a file?)",
        );
    }
    Ok(())
}
