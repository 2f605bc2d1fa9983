//! Two sources, one mesh: an object that both name is as the mesh file says; what the control plane
//! says of it is kept for when the file lets it go.

use std::collections::BTreeMap;

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
    file_policies: BTreeMap<Name, Policy>,
    policies: BTreeMap<Name, Policy>,
}

impl Layers {
    /// Of the mesh file alone, or of `two`.
    pub(super) fn new(two: bool) -> Self {
        Self {
            two,
            workloads: Layer::new(
                |desired, uid| desired.workload(uid).cloned(),
                Desired::set_workload,
            ),
            services: Layer::new(
                |desired, name| desired.service(name).cloned(),
                Desired::set_service,
            ),
            file_policies: BTreeMap::new(),
            policies: BTreeMap::new(),
        }
    }

    /// How many policies there are.
    pub(super) fn policies(&self) -> usize {
        let file = self.file_policies.keys().filter(|name| !self.policies.contains_key(*name));
        self.policies.len() + file.count()
    }

    /// This is all that the mesh file says now.
    pub(super) fn file(&mut self, desired: &mut Desired, mut model: Model) {
        let policies = std::mem::take(&mut model.policies).into_iter();
        self.file_policies = policies.map(|policy| (policy.name.clone(), policy)).collect();
        if self.two {
            self.workloads.file(desired, model.workloads);
            self.services.file(desired, model.services);
        } else {
            desired.replace(model);
        }
    }

    /// This changed of what the control plane says.
    pub(super) fn update(&mut self, desired: &mut Desired, update: Update) {
        desired.expect(update.workloads.len());
        self.workloads.update(desired, update.workloads);
        self.services.update(desired, update.services);
        for (name, policy) in update.policies {
            match policy {
                Some(policy) => drop(self.policies.insert(name, policy)),
                None => drop(self.policies.remove(&name)),
            }
        }
    }
}
