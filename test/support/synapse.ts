/**
 * A real Synapse with our fault proxy before it, for interop tests: the name it has is the proxy's address, so whoever
 * joins through it passes the proxy. Where Python or PyPI is missing, interop tests are skipped and say why; on a build
 * machine (CI=true) that is a failure.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { type CertificateFiles, ensureCertificateFiles } from '../../src/launch/certificates.ts';
import { freePort } from '../../src/launch/ports.ts';
import { LaunchError, type Progress } from '../../src/launch/progress.ts';
import { type LocalSynapse, launchSynapse } from '../../src/launch/synapse.ts';
import { pythonWithSynapse } from '../../src/launch/synapse-install.ts';
import { type FaultProxy, startFaultProxy } from '../../src/simulator/tls-proxy.ts';

const progress: Progress = (line) => console.error(line);

/**
 * Why there is no Synapse to be had; `undefined` when there is. For `describe.skipIf(missing !== undefined)`. A first call on a
 * machine installs it, which takes about a minute; scripts/test.ts does that before any test's time runs.
 */
export async function whySynapseIsMissing(): Promise<string | undefined> {
  try {
    await pythonWithSynapse(process.env, progress);
    return undefined;
  } catch (error) {
    if (!(error instanceof LaunchError) || process.env['CI'] === 'true') throw error;
    console.warn(`Interop tests are skipped. ${error.message}`);
    return error.message;
  }
}

export interface TestSynapse extends LocalSynapse {
  readonly proxy: FaultProxy;
  /** Certificates by the authority that Synapse trusts, good for any server on localhost. */
  readonly certificates: CertificateFiles;
  /** Stops both and removes the folder. */
  stop(): Promise<void>;
}

/** Starts a Synapse named `localhost:PROXY_PORT`. */
export async function startTestSynapse(): Promise<TestSynapse> {
  const folder = await mkdtemp(join(tmpdir(), 'rejoinder-synapse-'));
  const certificates = await ensureCertificateFiles(join(folder, 'tls'), [], systemClock);
  const federationPort = await freePort();
  const proxy = await startFaultProxy({
    certificatePem: await readFile(certificates.certificateFile, 'utf8'),
    keyPem: await readFile(certificates.keyFile, 'utf8'),
    upstream: { port: federationPort, authorityPem: await readFile(certificates.authorityFile, 'utf8') },
  });
  const clean = async (): Promise<void> => {
    await proxy.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const serverName = `localhost:${proxy.port}`;
    const directory = join(folder, 'synapse');
    const synapse = await launchSynapse({
      serverName,
      directory,
      certificates,
      federationPort,
      env: process.env,
      progress,
    });
    const stop = async (): Promise<void> => {
      await synapse.stop();
      await clean();
    };
    return { ...synapse, proxy, certificates, stop };
  } catch (error) {
    await clean();
    throw error;
  }
}
