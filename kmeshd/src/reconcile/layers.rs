//! Two sources, one mesh: an object that both name is as the mesh file says; what the control plane
//! says of it is kept for when the file lets it go.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use kmesh_bpf::authz::Policy;

use crate::desired::Desired;
use crate::model::{Model, Name, Service, Update, Workload};

/// Objects of one kind.
#[derive(Debug)]
struct Layer<T> {
    /// What the mesh file names.
    file: HashSet<Name>,
    /// What the control plane says of that.
    below: HashMap<Name, T>,
    get: fn(&Desired, &Name) -> Option<T>,
    set: fn(&mut Desired, &Name, Option<T>),
}

impl<T> Layer<T> {
    fn new(get: fn(&Desired, &Name) -> Option<T>, set: fn(&mut Desired, &Name, Option<T>)) -> Self {
        Self { file: HashSet::new(), below: HashMap::new(), get, set }
    }

    fn file(&mut self, desired: &mut Desired, objects: Vec<(Name, T)>) {
        let named = objects.iter().map(|(name, _)| name.clone()).collect();
        let before = std::mem::replace(&mut self.file, named);
        for name in before.difference(&self.file) {
            (self.set)(desired, name, self.below.remove(name));
        }
        for (name, object) in objects {
            if !before.contains(&name)
                && let Some(below) = (self.get)(desired, &name)
            {
                self.below.insert(name.clone(), below);
            }
            (self.set)(desired, &name, Some(object));
        }
    }

    fn update(&mut self, desired: &mut Desired, objects: Vec<(Name, Option<T>)>) {
        for (name, object) in objects {
            match object {
                object if !self.file.contains(&name) => (self.set)(desired, &name, object),
                Some(object) => drop(self.below.insert(name, object)),
                None => drop(self.below.remove(&name)),
            }
        }
    }
}

/// The sources' layers over the desired state.
#[derive(Debug)]
pub(super) struct Layers {
    /// There is a control plane.
    two: bool,
    workloads: Layer<Workload>,
    services: Layer<Service>,
    policies: Layer<Arc<Policy>>,
}

impl Layers {
    /// Of the mesh file alone, or of `two`.
    pub(super) fn new(two: bool) -> Self {
        Self {
            two,
            workloads: Layer::new(Desired::said, Desired::set_workload),
            services: Layer::new(
                |desired, name| desired.service(name).cloned(),
                Desired::set_service,
            ),
            policies: Layer::new(
                |desired, name| desired.policy(name).cloned(),
                Desired::set_policy,
            ),
        }
    }

    /// This is all that the mesh file says now.
    pub(super) fn file(&mut self, desired: &mut Desired, model: Model) {
        if self.two {
            self.workloads.file(desired, model.workloads);
            self.services.file(desired, model.services);
            self.policies.file(desired, model.policies);
        } else {
            desired.replace(model);
        }
    }

    /// This changed of what the control plane says.
    pub(super) fn update(&mut self, desired: &mut Desired, update: Update) {
        desired.expect(update.workloads.len());
        self.workloads.update(desired, update.workloads);
        self.services.update(desired, update.services);
        self.policies.update(desired, update.policies);
    }
}
