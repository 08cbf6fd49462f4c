//! What keys change: which view, in which order, which part of it.

/// What the rows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// Growth, fastest first.
    #[default]
    Rate,
    /// Anonymous memory, largest first.
    Anon,
    /// Swapped out, largest first.
    Swap,
    /// Time left, least first.
    Left,
    /// Process id, lowest first.
    Pid,
}

impl Sort {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Rate => Self::Anon,
            Self::Anon => Self::Swap,
            Self::Swap => Self::Left,
            Self::Left => Self::Pid,
            Self::Pid => Self::Rate,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Anon => "anon",
            Self::Swap => "swap",
            Self::Left => "left",
            Self::Pid => "pid",
        }
    }
}

/// What the rows are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Subject {
    /// Processes.
    #[default]
    Processes,
    /// Kinds of PHP requests that were seen growing.
    Requests,
    /// PHP pools, their workers under them.
    Pools,
}

impl Subject {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Processes => Self::Requests,
            Self::Requests => Self::Pools,
            Self::Pools => Self::Processes,
        }
    }
}

/// What keys change.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    pub subject: Subject,
    /// The order of processes; requests and pools have one only.
    pub sort: Sort,
    pub reversed: bool,
    /// Names (of requests and workers: what they do) must contain this, whatever the case; empty =
    /// all.
    pub filter: String,
    /// The filter is being typed.
    pub typing: bool,
    pub help: bool,
    pub paused: bool,
    /// First row on the screen.
    pub offset: usize,
    /// Rows that fit on the screen, as last drawn.
    pub page: usize,
}
