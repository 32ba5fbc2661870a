//! The manifests at a real Kubernetes: its API server takes them, and its Job controller makes the pods. The test is
//! the node that runs them. It needs programs that `./test` does not build, and is skipped without them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use rcgen::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::bench::{Bench, Finished};
use crate::common::needs::{needs, tools};
use crate::common::peer::TOKEN;
use crate::common::process::until;
use crate::common::reference::Reference;
use crate::common::summary::outcome;

const NAMESPACE: &str = "certctl-bench";
const SHARDS: u64 = 2;
/// The key of the API server's administrator, who is nobody's.
const ADMIN: &str = "an-administrator-of-a-test";

/// A process that ends when this is dropped.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A control plane without a node.
struct Cluster {
    folder: TempDir,
    // Ended in this order.
    _controllers: Ends,
    _api: Ends,
    _store: Ends,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn part(folder: &Path, name: &str, flags: &[String]) -> Ends {
    let log = File::create(folder.join(format!("{name}.log"))).unwrap();
    let mut command = Command::new(tools().join("kubernetes/control-plane"));
    command.arg(name).args(flags).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Ends(command.spawn().unwrap())
}

impl Cluster {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let [clients, peers, api, controllers] = [(); 4].map(|()| free_port());
        let store = part(
            folder.path(),
            "etcd",
            &[
                format!("--data-dir={}", at("etcd")),
                format!("--listen-client-urls=http://127.0.0.1:{clients}"),
                format!("--advertise-client-urls=http://127.0.0.1:{clients}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peers}"),
                format!("--initial-advertise-peer-urls=http://127.0.0.1:{peers}"),
                format!("--initial-cluster=default=http://127.0.0.1:{peers}"),
                "--unsafe-no-fsync".to_owned(),
            ],
        );
        let key = KeyPair::generate().unwrap();
        fs::write(at("key.pem"), key.serialize_pem()).unwrap();
        fs::write(at("public.pem"), key.public_key_pem()).unwrap();
        fs::write(at("tokens.csv"), format!("{ADMIN},admin,admin,system:masters\n")).unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{api}"), "insecure-skip-tls-verify": true,
            }}],
            "users": [{"name": "test", "user": {"token": ADMIN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}],
        });
        fs::write(at("kubeconfig"), kubeconfig.to_string()).unwrap();
        let api = part(
            folder.path(),
            "kube-apiserver",
            &[
                format!("--etcd-servers=http://127.0.0.1:{clients}"),
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=127.0.0.1".to_owned(),
                format!("--secure-port={api}"),
                format!("--cert-dir={}", at("certificates")),
                "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
                "--service-account-issuer=https://test.invalid".to_owned(),
                format!("--service-account-key-file={}", at("public.pem")),
                format!("--service-account-signing-key-file={}", at("key.pem")),
                format!("--token-auth-file={}", at("tokens.csv")),
                "--authorization-mode=RBAC".to_owned(),
                // Its tokens need controllers that no Job needs.
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                // It would write the address of the API server into a Service, which refuses loopback.
                "--endpoint-reconciler-type=none".to_owned(),
            ],
        );
        let controllers = part(
            folder.path(),
            "kube-controller-manager",
            &[
                format!("--kubeconfig={}", at("kubeconfig")),
                "--controllers=job-controller".to_owned(),
                "--leader-elect=false".to_owned(),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--secure-port={controllers}"),
                format!("--cert-dir={}", at("controllers")),
            ],
        );
        let cluster = Self { folder, _controllers: controllers, _api: api, _store: store };
        until("the API server is ready", || cluster.try_kubectl(&["get", "--raw", "/readyz"]).is_ok());
        cluster.kubectl(&["create", "namespace", NAMESPACE]);
        cluster
    }

    fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("kubectl");
        command.env("KUBECONFIG", self.folder.path().join("kubeconfig")).env("HOME", self.folder.path());
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    #[track_caller]
    fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    fn get(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.kubectl(&[&["get", "-o", "json"][..], arguments].concat())).unwrap()
    }

    /// Waits for the pods that the Job controller makes for a Job.
    fn pods(&self, job: &str, count: usize) -> Vec<Value> {
        let mut pods = Vec::new();
        until(&format!("the pods of {job} are there"), || {
            let selector = format!("batch.kubernetes.io/job-name={job}");
            pods = self.get(&["pods", "-l", &selector])["items"].as_array().unwrap().clone();
            pods.len() >= count
        });
        assert_eq!(pods.len(), count);
        pods
    }

    /// Returns the environment of a pod's only container, as a node resolves it.
    fn environment(&self, pod: &Value) -> BTreeMap<String, String> {
        let container = &pod["spec"]["containers"][0];
        let mut variables = BTreeMap::new();
        for from in container["envFrom"].as_array().into_iter().flatten() {
            let map = self.get(&["configmap", from["configMapRef"]["name"].as_str().unwrap()]);
            let data = map["data"].as_object().unwrap().iter();
            variables.extend(data.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())));
        }
        for one in container["env"].as_array().unwrap() {
            let from = &one["valueFrom"];
            let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{one}")).to_owned();
            let value = if let Some(path) = from["fieldRef"]["fieldPath"].as_str() {
                // metadata.labels['KEY'], or annotations.
                let (kind, key) = path.strip_prefix("metadata.").unwrap().split_once('[').unwrap();
                text(&pod["metadata"][kind][key.trim_matches(['[', ']', '\''])])
            } else if from["secretKeyRef"].is_object() {
                assert_eq!(from["secretKeyRef"]["name"], "certctl-access");
                TOKEN.to_owned()
            } else if let Some(name) = from["configMapKeyRef"]["name"].as_str() {
                text(&self.get(&["configmap", name])["data"][from["configMapKeyRef"]["key"].as_str().unwrap()])
            } else {
                text(&one["value"])
            };
            variables.insert(one["name"].as_str().unwrap().to_owned(), value);
        }
        variables
    }

    /// Reports the end of a pod, as its node would.
    fn report(&self, pod: &Value, phase: &str) {
        let patch = json!({ "status": { "phase": phase } }).to_string();
        let name = pod["metadata"]["name"].as_str().unwrap();
        self.kubectl(&["patch", "pod", name, "--subresource=status", "--type=merge", "-p", &patch]);
    }

    fn wait_for(&self, job: &str, condition: &str) -> Value {
        let mut found = Value::Null;
        until(&format!("{job} is {condition}"), || {
            found = self.get(&["job", job]);
            let mut conditions = found["status"]["conditions"].as_array().into_iter().flatten();
            conditions.any(|one| one["type"] == condition && one["status"] == "True")
        });
        found
    }
}

/// Returns the reason if this machine has no control plane.
fn lack() -> Option<String> {
    if !tools().join("kubernetes/installed.txt").is_file() {
        return Some("no Kubernetes control plane (tests/kubernetes/install builds one, in some minutes)".to_owned());
    }
    Command::new("kubectl").arg("version").arg("--client").output().err().map(|error| format!("kubectl: {error}"))
}

/// Copies the manifests, with an overlay for this machine: two shards of a small fleet.
fn manifests(folder: &Path, server: &Reference) -> PathBuf {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/base");
    fs::create_dir_all(folder.join("base")).unwrap();
    for entry in fs::read_dir(base).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), folder.join("base").join(entry.file_name())).unwrap();
    }
    let start = humantime::format_rfc3339_seconds(SystemTime::now() + Duration::from_secs(30));
    let overlay = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": ["../base"],
        "configMapGenerator": [{"name": "load", "behavior": "merge", "literals": [
            format!("CERTCTL_BENCH_SHARD_COUNT={SHARDS}"),
            format!("CERTCTL_BENCH_START={start}"),
            format!("CERTCTL_BENCH_TARGET={}", server.base()),
            format!("CERTCTL_BENCH_CLOCK_PEER=127.0.0.1:{}", free_port()),
            "CERTCTL_BENCH_AGENTS=40",
            "CERTCTL_BENCH_RATE=100/s",
            "CERTCTL_BENCH_DURATION=2s",
        ]}],
        "patches": [{"target": {"kind": "Job", "name": "shards"}, "patch": json!([
            {"op": "replace", "path": "/spec/completions", "value": SHARDS},
            {"op": "replace", "path": "/spec/parallelism", "value": SHARDS},
        ]).to_string()}],
    });
    let place = folder.join("overlay");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("kustomization.yaml"), overlay.to_string()).unwrap();
    place
}

/// Returns the program of a pod as it would run in its container, with `parts` mounted.
fn program(cluster: &Cluster, pod: &Value, server: &Reference, parts: &Path) -> Bench {
    let command = pod["spec"]["containers"][0]["command"].as_array().unwrap();
    let words: Vec<&str> = command.iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(words[0], "certctl-bench");
    let mounted = |text: &str| text.replace("/parts", parts.to_str().unwrap());
    let mut bench = Bench::of(Path::new(env!("CARGO_BIN_EXE_certctl-bench")), &mounted(&words[1..].join(" ")));
    for (name, value) in cluster.environment(pod) {
        let value =
            if name == "CERTCTL_BENCH_CA_FILE" { server.ca_file().display().to_string() } else { mounted(&value) };
        bench.command.env(name, value);
    }
    bench
}

#[test]
fn a_real_job_controller_runs_the_manifests() {
    if let Some(why) = lack() {
        needs!(else &why);
    }
    let (server, cluster) = (Reference::start(&[]), Cluster::start());
    let folder = tempfile::tempdir().unwrap();
    let (overlay, parts) = (manifests(folder.path(), &server), folder.path().join("parts"));
    let ca = format!("--from-file={}", server.ca_file().display());
    cluster.kubectl(&["create", "secret", "generic", "certctl-access", &ca, &format!("--from-literal=token={TOKEN}")]);
    // The API server refuses what it does not know.
    cluster.kubectl(&["apply", "--validate=strict", "-k", overlay.to_str().unwrap()]);

    let pods = cluster.pods("shards", SHARDS as usize);
    let running: Vec<_> = pods
        .iter()
        .map(|pod| {
            // The name by which the others find shard 0.
            let index = pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"].as_str().unwrap();
            assert_eq!(
                (&pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
                (&json!(format!("shards-{index}")), &json!("shards"))
            );
            program(&cluster, pod, &server, &parts).start()
        })
        .collect();
    let uid = cluster.get(&["job", "shards"])["metadata"]["uid"].as_str().unwrap().to_owned();
    for (pod, running) in pods.iter().zip(running) {
        running.finish().exits(0);
        cluster.report(pod, "Succeeded");
    }
    let job = cluster.wait_for("shards", "Complete");
    assert_eq!((&job["status"]["succeeded"], &job["status"]["completedIndexes"]), (&json!(SHARDS), &json!("0,1")));

    let merge = cluster.pods("merge", 1).remove(0);
    let done: Finished = program(&cluster, &merge, &server, &parts).run();
    let summary = parts.join("result/summary.json");
    let summary: Value = serde_json::from_str(&fs::read_to_string(summary).unwrap()).unwrap();
    assert_eq!((outcome(&summary, "ok"), &summary["run_id"]), (200, &json!(uid)), "{}", done.stderr);
    assert_eq!(Some(summary["exit_code"].as_i64().unwrap() as i32), done.code);
    cluster.report(&merge, if done.code == Some(0) { "Succeeded" } else { "Failed" });
    cluster.wait_for("merge", if done.code == Some(0) { "Complete" } else { "Failed" });
}
