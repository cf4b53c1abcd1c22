//! `[[cookies]]`: which of the backend's cookies are signed, and what attributes they get.

use std::time::Duration;

use serde::Deserialize;

use super::signature::Signature;
use super::{CookieRules, Rule, loose};
use crate::problem::Problem;
use crate::secret::Secret;
use crate::session::cookie::{self, Prefix, SameSite};
use crate::units;

/// One `[[cookies]]` as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "they are switches of the file")]
pub struct CookieRuleSettings {
    /// Whose cookie it is: exactly this name.
    pub name: String,
    /// Signed on the way out, checked and unwrapped on the way in (Django's `set_signed_cookie`, `get_signed_cookie`).
    #[serde(default)]
    pub sign: bool,
    #[serde(default)]
    pub salt: String,
    /// How old a signature may be, and `Max-Age` on the way out.
    #[serde(default, deserialize_with = "units::optional_duration")]
    pub max_age: Option<Duration>,
    /// Absent, that of `[store.django]` with its fallbacks.
    pub secret_key: Option<Secret>,
    /// Older ones that are still believed.
    #[serde(default)]
    pub secret_key_fallbacks: Vec<Secret>,
    #[serde(default)]
    pub derivation: Derivation,
    /// Whether what the legacy derivation signed is believed too (`SIGNED_COOKIE_LEGACY_SALT_FALLBACK`).
    #[serde(default)]
    pub accept_legacy: bool,
    #[serde(default)]
    pub secure: bool,
    #[serde(default)]
    pub http_only: bool,
    pub same_site: Option<SameSite>,
    pub path: Option<String>,
    pub domain: Option<String>,
}

/// How salt and name of a signed cookie become one.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Derivation {
    /// Django 5.2.15, 6.0.6, 6.1 and later.
    #[default]
    Current,
    /// Before: `("ab", salt "c")` and `("a", salt "bc")` are the same to it (CVE-2026-6873).
    Legacy,
}

/// A secret key and the older ones that are still believed.
pub type SecretKeys<'a> = (&'a Secret, &'a [Secret]);

impl CookieRules {
    /// `session_cookie` is the name of the session's cookie, `django` what `[store.django]` signs with.
    ///
    /// # Errors
    /// For what browsers would refuse, for a rule that does nothing, for signatures without a key, and for names that
    /// belong to the session or stand twice.
    pub fn new(
        settings: &[CookieRuleSettings],
        session_cookie: &str,
        django: Option<SecretKeys<'_>>,
    ) -> Result<Self, Problem> {
        let mut rules: Vec<Rule> = Vec::new();
        for (index, settings) in settings.iter().enumerate() {
            let place = format!("cookies[{index}]");
            let name = &settings.name;
            let refused = |message| Err(Problem::new(format!("{place}.name"), format!("{name:?}"), message));
            cookie::check_name(&format!("{place}.name"), name)?;
            if name.eq_ignore_ascii_case(session_cookie) {
                return refused("is the session's cookie; its attributes are in [cookie]");
            }
            if rules.iter().any(|rule| rule.name == *name) {
                return refused("another rule has the same name; make one of them");
            }
            rules.push(settings.rule(&place, django)?);
        }
        Ok(Self(rules))
    }
}

impl CookieRuleSettings {
    fn rule(&self, place: &str, django: Option<SecretKeys<'_>>) -> Result<Rule, Problem> {
        self.check_attributes(place)?;
        let rule = Rule {
            name: self.name.clone(),
            loose_name: loose(self.name.as_bytes()),
            signature: self.signature(place, django)?,
            attributes: self.attributes(),
            max_age: self.max_age.map(|age| age.min(cookie::MAX_AGE)),
        };
        if rule.signature.is_none() && rule.attributes.is_empty() && rule.max_age.is_none() {
            let message = "the rule does nothing; write sign = true, or an attribute such as secure = true";
            return Err(Problem::new(format!("{place}.name"), format!("{:?}", self.name), message));
        }
        Ok(rule)
    }

    fn check_attributes(&self, place: &str) -> Result<(), Problem> {
        let at = |key: &str| format!("{place}.{key}");
        if let Some(path) = &self.path {
            cookie::check_path(&at("path"), path)?;
        }
        if let Some(domain) = &self.domain {
            cookie::check_domain(&at("domain"), domain)?;
        }
        if let Some(age) = self.max_age.filter(|age| *age < Duration::from_secs(1)) {
            return Err(Problem::new(at("max_age"), format!("{age:?}"), "must be at least \"1s\""));
        }
        let needs = |key: &str, value: String, what: &str| Err(Problem::new(at(key), value, format!("needs {what}")));
        if let Some(prefix) = Prefix::of(&self.name) {
            let name = format!("{:?}", self.name);
            if !self.secure {
                return needs("name", name, "secure = true");
            }
            if prefix.host && (self.domain.is_some() || self.path.as_ref().is_some_and(|path| path != "/")) {
                return needs("name", name, "path = \"/\" and no domain");
            }
            if prefix.http_only && !self.http_only {
                return needs("name", name, "http_only = true");
            }
        }
        if self.same_site == Some(SameSite::None) && !self.secure {
            return needs("same_site", "\"None\"".to_owned(), "secure = true");
        }
        Ok(())
    }

    fn attributes(&self) -> Vec<(&'static str, Option<String>)> {
        let same_site = self.same_site.map(|same_site| same_site.attribute().map(str::to_owned));
        let attributes = [
            ("domain", self.domain.as_ref().map(|domain| Some(format!("Domain={domain}")))),
            ("httponly", self.http_only.then(|| Some("HttpOnly".to_owned()))),
            ("path", self.path.as_ref().map(|path| Some(format!("Path={path}")))),
            ("samesite", same_site),
            ("secure", self.secure.then(|| Some("Secure".to_owned()))),
        ];
        attributes.into_iter().filter_map(|(name, attribute)| Some((name, attribute?))).collect()
    }

    fn signature(&self, place: &str, django: Option<SecretKeys<'_>>) -> Result<Option<Signature>, Problem> {
        if !self.sign {
            let unused = [
                ("salt", !self.salt.is_empty()),
                ("secret_key", self.secret_key.is_some()),
                ("secret_key_fallbacks", !self.secret_key_fallbacks.is_empty()),
                ("derivation", self.derivation != Derivation::default()),
                ("accept_legacy", self.accept_legacy),
            ];
            return match unused.into_iter().find(|(_, written)| *written) {
                Some((key, _)) => {
                    Err(Problem::new(format!("{place}.{key}"), "…", "has no meaning without sign = true"))
                }
                None => Ok(None),
            };
        }
        let own = self.secret_key.as_ref().map(|key| (key, &[][..]));
        let Some((secret, fallbacks)) = own.or(django) else {
            let message = "needs secret_key, here or in [store.django]";
            return Err(Problem::new(format!("{place}.sign"), true, message));
        };
        let fallbacks: Vec<&str> = fallbacks.iter().chain(&self.secret_key_fallbacks).map(Secret::expose).collect();
        let mut signature = Signature::new(&self.name, &self.salt, secret.expose(), &fallbacks);
        signature.writes = self.derivation;
        // Who writes it must believe it.
        signature.reads_legacy = self.accept_legacy || self.derivation == Derivation::Legacy;
        signature.max_age = self.max_age;
        Ok(Some(signature))
    }
}
