//! A request's query. Owns: reading it. Does not own: what a parameter means.

use pintle_api::status;

use super::answer::Failure;

/// Parameters in the order sent.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what follows the `?`.
    pub fn parse(text: &str) -> Query {
        Query(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value; empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// All values.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Whether the parameter says yes: `true`, `1`, or present without a value.
    pub fn flag(&self, name: &str) -> bool {
        self.option(name).is_some_and(|value| !matches!(value, "0" | "false"))
    }

    /// The first value, if there is one.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A number.
    ///
    /// # Errors
    /// 400 if there is something else.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Failure> {
        match self.option(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => {
                let wrong = |_| status::bad_request(format!("the query parameter {name} is not a number: {value:?}"));
                Ok(Some(value.parse().map_err(wrong)?))
            }
        }
    }

    /// Whether `dryRun=All` was asked.
    ///
    /// # Errors
    /// 422 for any other value.
    pub fn dry_run(&self) -> Result<bool, Failure> {
        match self.get("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => Err(status::bad_request(format!(
                "invalid dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ))
            .into()),
        }
    }
}
