//! `${VAR}`, `${VAR:-default}` and `$$`.

use std::collections::BTreeSet;

use super::Environment;

/// Expands leaves, and remembers which variables they used.
pub(super) struct Expander<'a> {
    env: Environment<'a>,
    /// Whether `$VAR` is a variable too, as in files for pgEdge's bridge.
    bare_names: bool,
    used: BTreeSet<String>,
}

impl<'a> Expander<'a> {
    pub(super) fn new(env: Environment<'a>, bare_names: bool) -> Self {
        Self { env, bare_names, used: BTreeSet::new() }
    }

    /// The variables that were asked for.
    pub(super) fn used(&self) -> &BTreeSet<String> {
        &self.used
    }

    /// What `text` means. The error never holds `text` or a variable's value: either may be a secret.
    pub(super) fn expand(&mut self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            out.push_str(&rest[..dollar]);
            rest = self.reference(&rest[dollar + 1..], &mut out)?;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// Reads what follows a `$`, and returns the rest.
    fn reference<'t>(&mut self, text: &'t str, out: &mut String) -> Result<&'t str, String> {
        if let Some(rest) = text.strip_prefix('$') {
            out.push('$');
            return Ok(rest);
        }
        if let Some(inside) = text.strip_prefix('{') {
            let Some((inside, rest)) = inside.split_once('}') else {
                return Err("`${` without a `}`; write ${NAME}, or $$ for a dollar".into());
            };
            out.push_str(&self.braced(inside)?);
            return Ok(rest);
        }
        let name = &text[..name_length(text)];
        if name.is_empty() {
            out.push('$');
        } else {
            out.push_str(&self.bare(name)?);
        }
        Ok(&text[name.len()..])
    }

    /// Without braces it may as well be a part of a secret: no error shows the name.
    fn bare(&mut self, name: &str) -> Result<String, String> {
        if !self.bare_names {
            return Err("a `$` before a name: write ${NAME} for the variable, or $$NAME for the text".into());
        }
        self.variable(name, None).map_err(|_| {
            "the variable after a `$` is not set, or not UTF-8; set it, or write $$ for a dollar".into()
        })
    }

    fn braced(&mut self, inside: &str) -> Result<String, String> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if name.is_empty() || name_length(name) != name.len() {
            return Err(
                "`${…}` needs a variable's name: letters, digits and _; for a default ${NAME:-default}"
                    .into(),
            );
        }
        if default.is_some_and(|default| default.contains('$')) {
            return Err(format!("${{{name}:-…}}: the default is taken as it is, and can't hold a `$`"));
        }
        self.variable(name, default)
    }

    /// As in a shell, a default stands in for an empty variable too.
    fn variable(&mut self, name: &str, default: Option<&str>) -> Result<String, String> {
        self.used.insert(name.to_owned());
        let value = (self.env)(name).filter(|value| default.is_none() || !value.is_empty());
        match (value, default) {
            (Some(value), _) => {
                value.into_string().map_err(|_| format!("the environment variable {name} is not UTF-8"))
            }
            (None, Some(default)) => Ok(default.to_owned()),
            (None, None) => Err(format!(
                "the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
            )),
        }
    }
}

/// How much of the beginning of `text` can be a variable's name.
fn name_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn env(name: &str) -> Option<OsString> {
        match name {
            "A" => Some("alpha".into()),
            "EMPTY" => Some("".into()),
            "NESTED" => Some("${A} $A $$".into()),
            _ => None,
        }
    }

    #[test]
    fn references_are_replaced_once() {
        let cases = [
            ("plain", "plain"),
            ("${A}", "alpha"),
            ("x${A}y${A}", "xalphayalpha"),
            ("${EMPTY}", ""),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${NONE:-}", ""),
            ("${NESTED}", "${A} $A $$"),
            ("$$", "$"),
            ("$${A}", "${A}"),
            ("cost: 5$", "cost: 5$"),
            ("\"$@\" $1", "\"$@\" $1"),
        ];
        for (text, meaning) in cases {
            assert_eq!(Expander::new(&env, false).expand(text).as_deref(), Ok(meaning), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_an_error_without_the_text() {
        let cases = [
            ("s3cret${NONE}", "NONE is not set"),
            ("s3cret${A", "without a `}`"),
            ("s3cret${}", "needs a variable's name"),
            ("s3cret${9}", "needs a variable's name"),
            ("s3cret${A-b}", "needs a variable's name"),
            ("x$s3cret", "${NAME}"),
            ("s3cret${NONE:-${A}}", "can't hold a `$`"),
        ];
        for (text, message) in cases {
            let error = Expander::new(&env, false).expand(text).unwrap_err();
            assert!(error.contains(message) && !error.contains("s3cret"), "{text}: {error}");
        }
    }

    #[test]
    fn bare_names_are_variables_only_where_they_were_before() {
        assert_eq!(Expander::new(&env, true).expand("$A-$$A").as_deref(), Ok("alpha-$A"));
        let error = Expander::new(&env, true).expand("x$s3cret").unwrap_err();
        assert!(error.contains("not set") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn used_variables_are_remembered() {
        let mut expander = Expander::new(&env, true);
        assert_eq!(expander.expand("$A/${NONE:-x}").as_deref(), Ok("alpha/x"));
        assert_eq!(expander.used().iter().map(String::as_str).collect::<Vec<_>>(), ["A", "NONE"]);
    }
}
