//! The manifests of `deploy/kubernetes`: each is read into types that know every field used, and must agree with the
//! flags of the programs and with one another. kubectl's kustomize builds them where it is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde::Deserialize;
use serde_json::Value;

use crate::common::needs::needs;

const BASE: &str = "deploy/kubernetes/base";
const OVERLAYS: &str = "deploy/kubernetes/overlays";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A Job of the API batch/v1.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Job {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
    spec: JobSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "namespace")]
    _namespace: String,
    #[serde(default, rename = "labels")]
    _labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JobSpec {
    completion_mode: Option<CompletionMode>,
    completions: Option<u32>,
    parallelism: Option<u32>,
    backoff_limit: u32,
    active_deadline_seconds: u32,
    template: PodTemplate,
}

#[derive(Debug, PartialEq, Deserialize)]
enum CompletionMode {
    NonIndexed,
    Indexed,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PodTemplate {
    #[serde(default, rename = "metadata")]
    _metadata: Metadata,
    spec: PodSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PodSpec {
    restart_policy: RestartPolicy,
    subdomain: Option<String>,
    automount_service_account_token: bool,
    enable_service_links: bool,
    security_context: PodSecurity,
    #[serde(default)]
    topology_spread_constraints: Vec<Spread>,
    containers: Vec<Container>,
    volumes: Vec<Volume>,
}

#[derive(Debug, PartialEq, Deserialize)]
enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PodSecurity {
    run_as_non_root: bool,
    #[serde(rename = "runAsUser")]
    _run_as_user: u32,
    #[serde(rename = "runAsGroup")]
    _run_as_group: u32,
    #[serde(rename = "fsGroup")]
    _fs_group: u32,
    #[serde(rename = "seccompProfile")]
    _seccomp_profile: Seccomp,
    #[serde(default, rename = "sysctls")]
    _sysctls: Vec<Literal>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seccomp {
    #[serde(rename = "type")]
    _kind: String,
}

/// A name and its value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Literal {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "value")]
    _value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spread {
    #[serde(rename = "maxSkew")]
    _max_skew: u32,
    #[serde(rename = "topologyKey")]
    _topology_key: String,
    #[serde(rename = "whenUnsatisfiable")]
    _when_unsatisfiable: String,
    label_selector: LabelSelector,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LabelSelector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Container {
    #[serde(rename = "name")]
    _name: String,
    image: String,
    command: Vec<String>,
    #[serde(default)]
    env_from: Vec<EnvFrom>,
    #[serde(default)]
    env: Vec<EnvVar>,
    #[serde(default)]
    ports: Vec<ContainerPort>,
    resources: Resources,
    security_context: ContainerSecurity,
    volume_mounts: Vec<Mount>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EnvFrom {
    config_map_ref: Named,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EnvVar {
    name: String,
    value: Option<String>,
    value_from: Option<ValueFrom>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ValueFrom {
    field_ref: Option<FieldRef>,
    secret_key_ref: Option<KeyRef>,
    config_map_key_ref: Option<KeyRef>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FieldRef {
    field_path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRef {
    name: String,
    key: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ContainerPort {
    #[serde(rename = "name")]
    _name: String,
    container_port: u16,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    requests: BTreeMap<String, String>,
    limits: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ContainerSecurity {
    allow_privilege_escalation: bool,
    read_only_root_filesystem: bool,
    capabilities: Capabilities,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Capabilities {
    drop: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Mount {
    name: String,
    mount_path: String,
    #[serde(default, rename = "readOnly")]
    _read_only: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Volume {
    name: String,
    persistent_volume_claim: Option<ClaimRef>,
    secret: Option<SecretRef>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ClaimRef {
    claim_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SecretRef {
    #[serde(rename = "secretName")]
    _secret_name: String,
    items: Vec<SecretItem>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretItem {
    #[serde(rename = "key")]
    _key: String,
    path: String,
}

/// A Service of the API v1.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Service {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
    spec: ServiceSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    publish_not_ready_addresses: bool,
    selector: BTreeMap<String, String>,
    ports: Vec<ServicePort>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServicePort {
    #[serde(rename = "name")]
    _name: String,
    port: u16,
}

/// A PersistentVolumeClaim of the API v1.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Claim {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
    spec: ClaimSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ClaimSpec {
    access_modes: Vec<String>,
    #[serde(rename = "resources")]
    _resources: ClaimResources,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimResources {
    #[serde(rename = "requests")]
    _requests: BTreeMap<String, String>,
}

/// A ConfigMap of the API v1, as kustomize makes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ConfigMap {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
    data: BTreeMap<String, String>,
}

/// A kustomization.yaml.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default, rename = "namespace")]
    _namespace: String,
    resources: Vec<String>,
    #[serde(default, rename = "images")]
    _images: Vec<BTreeMap<String, String>>,
    config_map_generator: Vec<Generator>,
    #[serde(default)]
    patches: Vec<Patch>,
    #[serde(default, rename = "labels")]
    _labels: Vec<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Generator {
    name: String,
    #[serde(default)]
    behavior: String,
    literals: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    target: BTreeMap<String, String>,
    patch: String,
}

/// An operation of a JSON patch (RFC 6902).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    op: String,
    path: String,
    value: Value,
}

impl Generator {
    fn data(&self) -> BTreeMap<&str, &str> {
        self.literals.iter().map(|literal| literal.split_once('=').unwrap()).collect()
    }
}

fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => (*value).into(),
        Yaml::Value(Scalar::Integer(value)) => (*value).into(),
        Yaml::Value(Scalar::FloatingPoint(value)) => value.into_inner().into(),
        Yaml::Value(Scalar::String(text)) => text.as_ref().into(),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(fields) => {
            let field = |(name, value)| (Yaml::as_str(name).expect("a key is text").to_owned(), json(value));
            Value::Object(fields.iter().map(field).collect())
        }
        other => panic!("not in a manifest: {other:?}"),
    }
}

/// Returns the documents of a YAML text.
fn documents(text: &str) -> Vec<Value> {
    Yaml::load_from_str(text).unwrap().iter().map(json).collect()
}

fn read(path: &Path) -> Vec<Value> {
    documents(&fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn kustomization(folder: &Path) -> Kustomization {
    let documents = read(&folder.join("kustomization.yaml"));
    let [one] = &documents[..] else { panic!("one document") };
    Kustomization::deserialize(one).unwrap()
}

fn overlays() -> Vec<PathBuf> {
    fs::read_dir(root().join(OVERLAYS)).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The objects of a set of manifests, by their kinds.
#[derive(Default)]
struct Objects {
    jobs: BTreeMap<String, Job>,
    services: Vec<Service>,
    claims: Vec<Claim>,
    config: Vec<ConfigMap>,
}

/// Reads documents into the types of their kinds.
fn objects(documents: Vec<Value>) -> Objects {
    let mut found = Objects::default();
    for document in documents {
        let of = (document["apiVersion"].as_str().unwrap(), document["kind"].as_str().unwrap());
        match of {
            ("batch/v1", "Job") => {
                let job = Job::deserialize(&document).unwrap();
                assert!(found.jobs.insert(job.metadata.name.clone(), job).is_none(), "two Jobs of one name");
            }
            ("v1", "Service") => found.services.push(Service::deserialize(&document).unwrap()),
            ("v1", "PersistentVolumeClaim") => found.claims.push(Claim::deserialize(&document).unwrap()),
            ("v1", "ConfigMap") => found.config.push(ConfigMap::deserialize(&document).unwrap()),
            other => panic!("{other:?}"),
        }
    }
    found
}

/// Returns the objects of the base, without what kustomize makes.
fn base() -> Objects {
    let folder = root().join(BASE);
    let Kustomization { resources, .. } = kustomization(&folder);
    let files: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "kustomization.yaml")
        .collect();
    assert_eq!(files, resources.iter().cloned().collect(), "every file of the base is one of its resources");
    objects(resources.iter().flat_map(|name| read(&folder.join(name))).collect())
}

/// Returns the environment variables that a verb and, for a shard, the bench targets take.
fn known_variables(verb: &str) -> String {
    let help = |command: &mut Command| {
        let output = command.stdin(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let program = env!("CARGO_BIN_EXE_certctl-bench");
    let mut known = help(Command::new(program).args([verb, "--help"]));
    if verb == "shard" {
        let bench = crate::common::bench::program("agent_storm");
        known += &help(Command::new(bench).arg("--help"));
    }
    // Lines are wrapped anywhere.
    known.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_base_has_shards_and_a_merge_that_fit_together() {
    let Objects { jobs, services, claims, config } = base();
    assert!(config.is_empty());
    assert_eq!(jobs.keys().collect::<Vec<_>>(), ["merge", "shards"]);
    let shards = &jobs["shards"].spec;
    assert_eq!(shards.completion_mode, Some(CompletionMode::Indexed));
    assert_eq!(shards.completions, shards.parallelism, "all shards play at once");
    assert!(shards.completions.is_some());
    let load = kustomization(&root().join(BASE)).config_map_generator;
    let [load] = &load[..] else { panic!("one ConfigMap") };
    let data = load.data();
    assert_eq!(data["CERTCTL_BENCH_SHARD_COUNT"], shards.completions.unwrap().to_string());

    // Shard 0 has a name of its own, at a port that the Service and the pod have.
    let [service] = &services[..] else { panic!("one Service") };
    let name = &service.metadata.name;
    let (host, port) = data["CERTCTL_BENCH_CLOCK_PEER"].split_once(':').unwrap();
    assert_eq!(host, format!("shards-0.{name}"));
    assert_eq!(shards.template.spec.subdomain.as_ref(), Some(name));
    assert_eq!((&*service.spec.cluster_ip, service.spec.publish_not_ready_addresses), ("None", true));
    let of_shards = BTreeMap::from([("batch.kubernetes.io/job-name".to_owned(), "shards".to_owned())]);
    assert_eq!(service.spec.selector, of_shards);
    assert_eq!(service.spec.ports[0].port.to_string(), port);
    let container = &shards.template.spec.containers[0];
    assert_eq!(container.ports[0].container_port.to_string(), port);
    assert_eq!(shards.template.spec.topology_spread_constraints[0].label_selector.match_labels, of_shards);

    let [parts] = &claims[..] else { panic!("one claim") };
    assert_eq!(parts.spec.access_modes, ["ReadWriteMany"], "all machines write to it");
    for (name, Job { spec, .. }) in &jobs {
        // One that fails is not started again, neither by the Job nor on its node.
        assert_eq!((spec.backoff_limit, &spec.template.spec.restart_policy), (0, &RestartPolicy::Never), "{name}");
        assert!(spec.active_deadline_seconds > 0);
        let pod = &spec.template.spec;
        assert!(!pod.automount_service_account_token && !pod.enable_service_links);
        assert!(pod.security_context.run_as_non_root);
        let [container] = &pod.containers[..] else { panic!("one container") };
        let security = &container.security_context;
        assert!(!security.allow_privilege_escalation && security.read_only_root_filesystem);
        assert_eq!((&*container.image, &security.capabilities.drop[..]), ("certctl-bench", &["ALL".to_owned()][..]));
        assert!(container.resources.requests.contains_key("cpu") && !container.resources.limits.contains_key("cpu"));
        let volumes: BTreeSet<&str> = pod.volumes.iter().map(|volume| &*volume.name).collect();
        let mounts: BTreeSet<&str> = container.volume_mounts.iter().map(|mount| &*mount.name).collect();
        assert_eq!(volumes, mounts, "{name}");
        let claimed = pod.volumes.iter().filter_map(|volume| volume.persistent_volume_claim.as_ref());
        assert_eq!(claimed.map(|claim| &claim.claim_name).collect::<Vec<_>>(), [&parts.metadata.name]);
        let at = container.volume_mounts.iter().find(|mount| mount.name == "parts").unwrap();
        assert_eq!(at.mount_path, "/parts");
    }
    assert_eq!(jobs["merge"].spec.template.spec.containers[0].command.last().unwrap(), "/parts");
    let value = |name: &str| {
        let found = container.env.iter().find(|one| one.name == name).and_then(|one| one.value.clone());
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    assert_eq!(value("CERTCTL_BENCH_PARTS"), "/parts");
    let secrets = shards.template.spec.volumes.iter().find_map(|volume| volume.secret.as_ref()).unwrap();
    assert_eq!(value("CERTCTL_BENCH_CA_FILE"), format!("/access/{}", secrets.items[0].path));
}

#[test]
fn every_variable_of_the_manifests_is_one_of_the_programs() {
    let Objects { jobs, .. } = base();
    let load = kustomization(&root().join(BASE)).config_map_generator;
    let data = load[0].data();
    for (name, verb) in [("shards", "shard"), ("merge", "merge")] {
        let container = &jobs[name].spec.template.spec.containers[0];
        assert_eq!(container.command[..2], ["certctl-bench", verb]);
        let known = known_variables(verb);
        let mut named: Vec<&str> = container.env.iter().map(|one| &*one.name).collect();
        for from in &container.env_from {
            assert_eq!(from.config_map_ref.name, "load");
            named.extend(data.keys());
        }
        for variable in named {
            // A secret's value is not shown.
            let is_known = ["=", "]"].iter().any(|end| known.contains(&format!("[env: {variable}{end}")));
            assert!(is_known, "{verb} takes no {variable}");
        }
        for one in &container.env {
            let Some(from) = &one.value_from else { continue };
            if let Some(map) = &from.config_map_key_ref {
                assert!(map.name == "load" && data.contains_key(&*map.key), "{}: {}", one.name, map.key);
            }
            if let Some(field) = &from.field_ref {
                // The Job's own id: no two runs have the same.
                assert_eq!(field.field_path, "metadata.labels['batch.kubernetes.io/controller-uid']");
            }
            if let Some(secret) = &from.secret_key_ref {
                assert_eq!((&*secret.name, &*secret.key), ("certctl-access", "token"));
            }
        }
        for flag in container.command.iter().filter(|word| word.starts_with("--")) {
            assert!(known.contains(&format!(" {flag}")), "{verb} has no {flag}");
        }
    }
}

#[test]
fn overlays_change_the_number_of_shards_everywhere() {
    let base = kustomization(&root().join(BASE));
    let known = base.config_map_generator[0].data();
    for folder in overlays() {
        let overlay = kustomization(&folder);
        assert_eq!(overlay.resources, ["../../base"], "{}", folder.display());
        let [load] = &overlay.config_map_generator[..] else { panic!("one ConfigMap") };
        assert_eq!((&*load.name, &*load.behavior), ("load", "merge"));
        for name in load.data().keys() {
            assert!(known.contains_key(name), "{}: the base has no {name}", folder.display());
        }
        let count: u32 = load.data()["CERTCTL_BENCH_SHARD_COUNT"].parse().unwrap();
        let operations: Vec<Operation> = overlay
            .patches
            .iter()
            .inspect(|patch| assert_eq!((&*patch.target["kind"], &*patch.target["name"]), ("Job", "shards")))
            .flat_map(|patch| documents(&patch.patch))
            .flat_map(|list| Vec::<Operation>::deserialize(list).unwrap())
            .collect();
        let paths: Vec<&str> = operations.iter().map(|one| &*one.path).collect();
        assert_eq!(paths, ["/spec/completions", "/spec/parallelism"]);
        assert!(operations.iter().all(|one| one.op == "replace" && one.value == count), "{operations:?}");
    }
}

#[test]
fn a_manifest_with_an_unknown_field_is_refused() {
    let mut job = read(&root().join(BASE).join("merge.yaml")).remove(0);
    Job::deserialize(&job).unwrap();
    job["spec"]["template"]["spec"]["restartpolicy"] = "Never".into();
    assert!(Job::deserialize(&job).unwrap_err().to_string().contains("unknown field `restartpolicy`"));
}

#[test]
fn kustomize_builds_what_the_documents_describe() {
    if Command::new("kubectl").arg("version").arg("--client").output().is_err() {
        needs!(else "kubectl is not installed");
    }
    for folder in overlays() {
        let built = Command::new("kubectl").arg("kustomize").arg(&folder).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let Objects { jobs, config, services, claims } = objects(documents(&String::from_utf8(built.stdout).unwrap()));
        let [config] = &config[..] else { panic!("one ConfigMap") };
        let count = config.data["CERTCTL_BENCH_SHARD_COUNT"].parse().ok();
        assert_eq!((jobs["shards"].spec.completions, jobs["shards"].spec.parallelism), (count, count));
        // The generated name, everywhere.
        let shards = &jobs["shards"].spec.template.spec.containers[0];
        assert_eq!(shards.env_from[0].config_map_ref.name, config.metadata.name);
        let merge = &jobs["merge"].spec.template.spec.containers[0];
        let of_merge = merge.env.iter().filter_map(|one| one.value_from.as_ref()?.config_map_key_ref.as_ref());
        assert!(of_merge.map(|one| &one.name).all(|name| *name == config.metadata.name));
        assert_eq!(shards.image, merge.image);
        assert_eq!((services.len(), claims.len()), (1, 1));
    }
}
