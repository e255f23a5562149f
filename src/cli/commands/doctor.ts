/** `rejoinder doctor`: looks at everything that Rejoinder needs, says what is missing and how to get it. */
import { systemClock } from '../../clock.ts';
import { loadConfig } from '../../config.ts';
import { ConfigError } from '../../config/error.ts';
import { type Environment, findConfigFile } from '../../config/sources.ts';
import { UP_DEFAULTS } from '../defaults.ts';
import { checkCertificate, checkClientCertificate, checkOperatorToken, checkSigningKey } from '../doctor/files.ts';
import { type Finding } from '../doctor/finding.ts';
import { checkListener } from '../doctor/listeners.ts';
import { checkNode, checkPython } from '../doctor/machine.ts';
import { checkPostgres, checkTemporal } from '../doctor/services.ts';
import { CliError } from '../failure.ts';
import { type Output, printable } from '../output.ts';

export interface DoctorOptions {
  readonly env: Environment;
  readonly config?: string;
  readonly json: boolean;
}

/** Prints what a server needs and what of it is found, with remedies. Throws a `CliError` when anything is bad. */
export async function doctor(options: DoctorOptions, output: Output): Promise<void> {
  const findings = await examine(options);
  if (options.json) output.json(findings);
  else for (const finding of findings) print(finding, output);
  const bad = findings.filter(({ verdict }) => verdict === 'bad').length;
  if (bad > 0) {
    throw new CliError(`${bad} of ${findings.length} checks found something that keeps Rejoinder from working`);
  }
  if (!options.json) output.line('Nothing keeps Rejoinder from working.');
}

async function examine({ env, config: path }: DoctorOptions): Promise<Finding[]> {
  const machine = [checkNode(process.versions.node), await checkPython(env)];
  try {
    const config = loadConfig({ path, env, defaults: UP_DEFAULTS });
    const { federation, client, operator, metrics, workerMetrics } = config.listeners;
    return [
      ...machine,
      {
        subject: 'configuration',
        verdict: 'ok',
        found: findConfigFile(path, env) ?? 'no file; environment and defaults',
      },
      await checkPostgres(config, env),
      await checkTemporal(config, env),
      await checkSigningKey(config),
      await checkOperatorToken(config),
      await checkCertificate(config, systemClock),
      await checkClientCertificate(config, systemClock),
      await checkListener('federation', federation),
      await checkListener('client', client),
      await checkListener('operator', operator),
      ...(metrics === null ? [] : [await checkListener('metrics', metrics)]),
      ...(workerMetrics === null ? [] : [await checkListener('worker_metrics', workerMetrics)]),
    ];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const wrong = error.message
      .split('\n')
      .map((found): Finding => ({ subject: 'configuration', verdict: 'bad', found }));
    return [...machine, ...wrong];
  }
}

function print({ subject, verdict, found, remedy }: Finding, output: Output): void {
  const { colours } = output;
  const mark = { ok: colours.green('ok  '), note: colours.yellow('note'), bad: colours.red('bad ') }[verdict];
  output.line(`${mark}  ${subject.padEnd(20)} ${printable(found)}`);
  if (remedy !== undefined) output.line(`      ${' '.repeat(20)} ${colours.dim(printable(remedy))}`);
}
