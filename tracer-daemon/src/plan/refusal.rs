//! Why something is not probed: numbered, described, never reused.

use std::fmt;

/// A reason for not doing something. Its id is stable: it stands in JSON and in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// The binary has no function of that name.
    FunctionMissing,
    /// The binary has two functions of that name.
    FunctionAmbiguous,
    /// The compiler put the function's body into one that calls it, where no probe sees it.
    FunctionInlined,
    /// The function does not begin as every known compiler makes it begin.
    PrologueUnknown,
    /// The function does not call what it calls in every known version, or not exactly once.
    CallNotFound,
    /// What follows the call is not what follows it in every known version.
    JumpNotFound,
    /// The bytes are not instructions, or the code is longer than what was read.
    CodeUnreadable,
    /// The kernel would execute the instruction out of line, at ten times the cost.
    NotEmulated,
    /// The runtime has an allocating function that no known version has.
    AllocatorUnknown,
    /// The address sanitizer makes every object larger than was asked for.
    RedZones,
    /// A function makes goroutines by itself that pass none of the probes.
    CreatorUnknown,
}

impl RefusalReason {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::FunctionMissing,
        Self::FunctionAmbiguous,
        Self::FunctionInlined,
        Self::PrologueUnknown,
        Self::CallNotFound,
        Self::JumpNotFound,
        Self::CodeUnreadable,
        Self::NotEmulated,
        Self::AllocatorUnknown,
        Self::RedZones,
        Self::CreatorUnknown,
    ];

    /// The stable identifier.
    pub const fn id(self) -> &'static str {
        match self {
            Self::FunctionMissing => "function_missing",
            Self::FunctionAmbiguous => "function_ambiguous",
            Self::FunctionInlined => "function_inlined",
            Self::PrologueUnknown => "prologue_unknown",
            Self::CallNotFound => "call_not_found",
            Self::JumpNotFound => "jump_not_found",
            Self::CodeUnreadable => "code_unreadable",
            Self::NotEmulated => "not_emulated",
            Self::AllocatorUnknown => "allocator_unknown",
            Self::RedZones => "red_zones",
            Self::CreatorUnknown => "creator_unknown",
        }
    }
}

/// A stated reason with what it was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// A sentence for the operator.
    pub text: String,
}

impl Refusal {
    /// A refusal with its sentence.
    pub fn new(reason: RefusalReason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.text, self.reason.id())
    }
}
