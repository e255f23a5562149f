/** A process that is a simulated federation: told what to be and asked by messages, see process-messages.ts. */
import { type InjectedFault, type Simulator } from './contract.ts';
import { type PassedCall, type SimulatorReply, type SimulatorRequest } from './process-messages.ts';
import { startSimulator } from './simulator.ts';

type Call = (...args: readonly unknown[]) => Promise<unknown>;

let simulator: Promise<Simulator> | undefined;
const faults: InjectedFault[] = [];

function tell(reply: SimulatorReply): void {
  process.send?.(reply);
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function start(request: SimulatorRequest & { type: 'start' }): Promise<void> {
  try {
    simulator = startSimulator(request.options, (line) => tell({ type: 'progress', line }));
    const { port, domain, authorityPem, staticAddresses, residents, rooms } = await simulator;
    const facts = { port, domain, authorityPem, staticAddresses, residents, rooms, pid: process.pid };
    tell({ type: 'started', facts });
  } catch (error) {
    tell({ type: 'not-started', reason: reasonOf(error) });
  }
}

async function answer(request: Exclude<SimulatorRequest, { type: 'start' }>): Promise<unknown> {
  const running = await simulator;
  if (running === undefined) throw new Error('the simulator was not started');
  switch (request.type) {
    case 'call':
      // The other side has typed the arguments.
      return (running as unknown as Record<PassedCall, Call>)[request.call](...request.args);
    case 'inject':
      return faults.push(await running.inject(request.rule)) - 1;
    case 'fault':
      return faults[request.faultNo]?.[request.call]();
  }
}

process.on('message', (request: SimulatorRequest) => {
  if (request.type === 'start') {
    void start(request);
    return;
  }
  const { id } = request;
  answer(request).then(
    (value) => tell({ type: 'done', id, value }),
    (error: unknown) => tell({ type: 'failed', id, reason: reasonOf(error) }),
  );
});
