/** What `rejoinder up` and the commands that talk to it assume where no configuration says otherwise. */
import { type SettingsInput } from '../config/settings.ts';

/** A name that resolves on this machine only, with the port of the federation listener: enough to try things out. */
export const UP_DEFAULTS: Partial<SettingsInput> = { server_name: 'localhost:8448' };
