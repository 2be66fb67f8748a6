//! Which `AppArmor` profile a run gets, loaded for as long as it is needed.

use std::cell::{Cell, RefCell};

use super::{Denial, Proof, Round, Verifier};
use crate::{
    emit::{
        apparmor::{AppArmorProfile, Loading, default_denies},
        container::Confinement,
    },
    trace::{Facts, LsmAccess, Refusal},
    workload::{apparmor, audit::Listener},
};

/// The generated profiles of a verification. Only one that is kept outlives it.
pub struct Confiner<'a> {
    choice: RefCell<Confinement>,
    held: RefCell<Option<Held>>,
    kept: Cell<bool>,
    /// The kernel does not tell what it denies.
    deaf: Cell<bool>,
    watching: Cell<Watching>,
    applies: bool,
    progress: &'a dyn Fn(&str),
}

/// Whether runs are confined, or only looked at, to learn at once what one after the other would be refused.
#[derive(Clone, Copy, Debug, Default)]
struct Watching {
    /// The next run is.
    next: bool,
    /// One was, to its end: it told of all that is mounted, and names that are new since then are other ones in each run.
    done: bool,
    /// Runs so far.
    runs: u32,
    /// Those in which something was refused.
    refused: u32,
}

/// A profile in the kernel.
struct Held {
    profile: AppArmorProfile,
    /// It was there before: an earlier bundle's of the same content.
    was_there: bool,
}

impl<'a> Confiner<'a> {
    /// Nothing is loaded yet. `applies`: the engine confines by `AppArmor`.
    #[must_use]
    pub fn new(applies: bool, progress: &'a dyn Fn(&str)) -> Self {
        let obstacle = if applies { apparmor::obstacle() } else { None };
        let choice = RefCell::new(Confinement { beyond_default: false, obstacle });
        let (kept, deaf) = (Cell::new(false), Cell::new(false));
        Self { choice, held: RefCell::default(), kept, deaf, watching: Cell::default(), applies, progress }
    }

    /// What the next line is to be made by.
    pub(super) fn choice(&self) -> Confinement {
        self.choice.borrow().clone()
    }

    /// Makes another choice.
    pub(super) fn choose(&self, choice: Confinement) {
        *self.choice.borrow_mut() = choice;
    }

    /// Whether the next run is looked at and not confined.
    pub(super) fn watches(&self) -> bool {
        self.watching.get().next
    }

    /// What a run showed decides whether the next one is watched. A mount that is refused hides those that would have
    /// come after it: when what the first refusals told of was not all, a watched run tells the rest, or several where
    /// something else that was `repaired` ended them early. True when there is more to find out by another run.
    pub(super) fn learn(&self, round: &Round, repaired: bool) -> bool {
        let Watching { done, runs, refused, .. } = self.watching.get();
        let is_mount =
            |denial: &Denial| matches!(denial, Denial::AppArmor(refusal) if refusal.access.is_mount());
        let stopped = !round.watched && round.denials.iter().any(is_mount);
        let (refused, whole) = (refused + u32::from(stopped), round.differences.is_empty() || !repaired);
        let next = if round.watched { !whole } else { stopped && refused > 1 };
        self.watching.set(Watching { next, done: done || round.watched && whole, runs: runs + 1, refused });
        next || round.watched
    }

    /// The next run is confined: it is the last one, and only a confined one proves anything.
    pub(super) fn stop_watching(&self) {
        self.watching.set(Watching { next: false, ..self.watching.get() });
    }

    /// Whether a run's refusals of mounts are to be allowed. Once a watched run told what is mounted when nothing is
    /// refused, those of others may be what a program tries instead.
    pub(super) fn believes_mounts(&self) -> bool {
        let Watching { next: watched, done, .. } = self.watching.get();
        watched || !done
    }

    /// Loads what a line names and takes out what an earlier one did; for a `trial`, so that the kernel tells of all
    /// that it denies.
    ///
    /// # Errors
    ///
    /// When it cannot be loaded: why.
    pub(super) fn load(&self, profile: Option<&AppArmorProfile>, trial: bool) -> Result<(), String> {
        let mut held = self.held.borrow_mut();
        let same = held.as_ref().zip(profile).is_some_and(|(held, new)| held.profile.name == new.name);
        if !same && let Some(old) = held.take() {
            self.release(&old);
        }
        let Some(profile) = profile else { return Ok(()) };
        if !same {
            (self.progress)(&format!("loading the AppArmor profile {}", profile.name));
        }
        let was_there =
            held.as_ref().map_or_else(|| apparmor::is_loaded(&profile.name), |held| held.was_there);
        let loading = match trial {
            false => Loading::Kept,
            true if self.watches() => Loading::Watched,
            true => Loading::Trial,
        };
        apparmor::load(&profile.text(loading)).map_err(|error| format!("{error:#}"))?;
        *held = Some(Held { profile: profile.clone(), was_there });
        Ok(())
    }

    /// What the kernel told of a run.
    pub(super) fn heard(&self, ear: &Ear) -> Facts<Refusal> {
        self.deaf.set(ear.listener.is_none());
        let refusals = ear.listener.iter().flat_map(|listener| listener.refusals(&ear.name));
        let Watching { done: renamed, runs, .. } = self.watching.get();
        refusals.map(|refusal| (Refusal { renamed, run: runs + 1, ..refusal }, 1)).collect()
    }

    /// What is loaded now stays: the emitted command needs it.
    pub fn keep(&self) {
        self.kept.set(true);
    }

    fn release(&self, old: &Held) {
        let result = if old.was_there {
            apparmor::load(&old.profile.text(Loading::Kept))
        } else {
            apparmor::unload(&old.profile.name)
        };
        if let Err(error) = result {
            (self.progress)(&format!("{error:#}"));
        }
    }
}

impl Drop for Confiner<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take()
            && !self.kept.get()
        {
            self.release(&held);
        }
    }
}

/// What the kernel tells of a run under a generated profile.
pub(super) struct Ear {
    name: String,
    listener: Option<Listener>,
}

impl Ear {
    /// Listens from now on. Without a generated profile there is nothing to tell apart from what others do.
    pub(super) fn open(profile: Option<&AppArmorProfile>) -> Option<Self> {
        let listener = Listener::open().ok();
        profile.map(|profile| Self { name: profile.name.clone(), listener })
    }
}

impl Verifier<'_> {
    /// Where nothing else explains what was denied, `AppArmor` may: docker-default does not tell what it denies,
    /// a generated profile does. True when the next run is to be made under another one.
    pub(super) fn confine_otherwise(&self, proof: &Proof) -> bool {
        let denials = proof.verification.rounds.last().map_or(&[][..], |round| &round.denials);
        let unexplained = denials.iter().any(|denial| {
            matches!(denial, Denial::Unknown(failure) if matches!(failure.errno.as_str(), "EACCES" | "EPERM"))
        });
        let not_ours = denials.iter().find_map(|denial| match denial {
            Denial::AppArmor(Refusal { access: LsmAccess::Other(what), .. }) => Some(what),
            _ => None,
        });
        let confiner = self.confiner;
        let choice = confiner.choice();
        if !confiner.applies || !unexplained && not_ours.is_none() {
            return false;
        }
        let generated = confiner.held.borrow().is_some();
        let obstacle = match not_ours {
            Some(what) => Some(format!("no rule of its own would allow what was denied: {what}")),
            None => confiner.deaf.get().then(|| "the kernel does not tell what it denies".to_owned()),
        };
        if generated && obstacle.is_some() {
            (confiner.progress)(
                "verifying: no AppArmor profile allows what was denied, going on without one",
            );
            confiner.choose(Confinement { obstacle, ..choice });
            return true;
        }
        if !generated && !choice.beyond_default && default_denies(&proof.profile).is_none() {
            (confiner.progress)("verifying: looking whether the engine's AppArmor profile is what denies");
            confiner.choose(Confinement { beyond_default: true, ..choice });
            return true;
        }
        // It was not AppArmor.
        confiner.choose(Confinement { beyond_default: false, ..choice });
        false
    }
}
