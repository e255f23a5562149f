/** Hands a configuration to child processes: settings as the environment variables that set them. */
import { SETTING_KEYS, type SettingsInput } from '../../config/settings.ts';
import { type Environment, getIn, variableOf } from '../../config/sources.ts';

/** The variables that make a process read these settings, whatever its file says. */
export function variablesOf(settings: Partial<SettingsInput>): Environment {
  const variables: Record<string, string> = {};
  for (const { key } of SETTING_KEYS) {
    const value = getIn(settings, key.split('.'));
    // JSON is YAML, which is what anything richer than text is read as.
    if (value !== undefined) variables[variableOf(key)] = typeof value === 'string' ? value : JSON.stringify(value);
  }
  return variables;
}
