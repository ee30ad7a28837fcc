//! What is wrong with an object that users gave us. An issue never stops anything else from working; the edge says
//! each one once.

use std::fmt;

use crate::service::ServiceName;

/// Something wrong with one Service or one of its slices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Issue {
    /// Which Service.
    pub service: ServiceName,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// A text is no address.
    BadAddress {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// A text is no address range.
    BadRange {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// A port number is out of range, or a protocol unknown.
    BadPort {
        /// The port's name, or its number where it has none.
        port: String,
    },
    /// An endpoint's address is none that a Service may lead to.
    BadEndpoint {
        /// What it says.
        address: String,
    },
    /// Another Service has this address and port already.
    Taken {
        /// The frontend: address and port, or node port.
        frontend: String,
        /// Who has it.
        by: ServiceName,
    },
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {}: ", self.service)?;
        match &self.problem {
            Problem::BadAddress { field, value } => write!(f, "{field} \"{value}\" is no address; it is left out"),
            Problem::BadRange { field, value } => write!(f, "{field} \"{value}\" is no address range; it is left out"),
            Problem::BadPort { port } => write!(f, "port \"{port}\" is unusable; it is left out"),
            Problem::BadEndpoint { address } => {
                write!(f, "endpoint \"{address}\" is no address a Service may lead to; it is left out")
            }
            Problem::Taken { frontend, by } => {
                write!(f, "{frontend} belongs to service {by} already; it keeps leading there")
            }
        }
    }
}
