import { describe, it } from '@jest/globals';
import { deciderSpec } from '@sluice/testing';
import type { OrganizationEvent, SettingsChange } from './organization.js';
import { organizationDecider } from './organization.decider.js';

const at = '2026-01-01T00:00:00.000Z';
const created: OrganizationEvent = {
  type: 'OrganizationCreated',
  data: { organizationId: 'o1', name: 'Acme', createdAt: at },
};
const project: OrganizationEvent = { type: 'ProjectCreated', data: { project: 'default', createdAt: at } };
const ensured: OrganizationEvent = {
  type: 'WorkloadEnsured',
  data: { project: 'default', workload: 'chat', model: 'm', ensuredAt: at },
};
const ensure = { type: 'ensure-workload', project: 'default', workload: 'chat', model: 'm', at } as const;

const { given } = deciderSpec(organizationDecider);

describe('an organization', () => {
  it('begins with one project named default', () => {
    given().when({ type: 'create', organizationId: 'o1', name: 'Acme', at }).yields(created, project);
  });

  it('ensures a workload: made, changed, or left as it is', () => {
    given(created, project).when(ensure).yields(ensured);
    given(created, project, ensured).when(ensure).yields();
    given(created, project, ensured)
      .when({ ...ensure, model: 'm2' })
      .yields({ type: 'WorkloadEnsured', data: { project: 'default', workload: 'chat', model: 'm2', ensuredAt: at } });
  });

  it('removes a workload once', () => {
    const remove = { type: 'remove-workload', project: 'default', workload: 'chat', at } as const;
    given(created, project, ensured)
      .when(remove)
      .yields({ type: 'WorkloadRemoved', data: { project: 'default', workload: 'chat', removedAt: at } });
    given(created, project).when(remove).yields();
  });

  it('refuses what belongs to an organization or project that does not exist', () => {
    given().when(ensure).refuses('not_found');
    given(created, project)
      .when({ ...ensure, project: 'other' })
      .refuses('not_found');
  });

  it('takes a project named constructor for one that has to be made, like any other', () => {
    const made: OrganizationEvent = { type: 'ProjectCreated', data: { project: 'constructor', createdAt: at } };
    given(created).when({ type: 'create-project', project: 'constructor', at }).yields(made);
    given(created)
      .when({ ...ensure, project: 'constructor' })
      .refuses('not_found');
    given(created, project).when({ type: 'remove-workload', project: 'default', workload: 'constructor', at }).yields();
  });

  it('is suspended once and resumed once', () => {
    const suspend = { type: 'suspend', reason: 'unpaid', at } as const;
    const suspended: OrganizationEvent = { type: 'OrganizationSuspended', data: { reason: 'unpaid', suspendedAt: at } };
    const resumed: OrganizationEvent = { type: 'OrganizationResumed', data: { resumedAt: at } };
    given(created, project).when(suspend).yields(suspended);
    given(created, project).when({ type: 'resume', at }).yields();
    given(created, project, suspended).when({ type: 'resume', at }).yields(resumed);
    given(created, project, suspended, resumed).when(suspend).yields(suspended);
    given().when(suspend).refuses('not_found');
  });

  it('changes the settings that are given and differ', () => {
    const change = { type: 'change-settings', settings: { immutableKeyNames: true }, at } as const;
    const changed: OrganizationEvent = {
      type: 'SettingsChanged',
      data: { settings: { immutableKeyNames: true }, changedAt: at },
    };
    given(created).when(change).yields(changed);
    given(created, changed).when(change).yields();
    given(created)
      .when({ ...change, settings: {} })
      .yields();
  });

  it('keeps a setting that is taken away apart from one that is not named', () => {
    const change = { type: 'change-settings', at } as const;
    const changed = (settings: SettingsChange): OrganizationEvent => ({
      type: 'SettingsChanged',
      data: { settings, changedAt: at },
    });
    const [off, other] = [changed({ usageSpikeFactor: null }), changed({ immutableKeyNames: true })];
    given(created)
      .when({ ...change, settings: { usageSpikeFactor: 5 } })
      .yields();
    given(created)
      .when({ ...change, settings: { usageSpikeFactor: null } })
      .yields(off);
    given(created, off, other)
      .when({ ...change, settings: { usageSpikeFactor: null } })
      .yields();
    given(created, off, other)
      .when({ ...change, settings: { usageSpikeFactor: 5 } })
      .yields(changed({ usageSpikeFactor: 5 }));
  });

  describe('changes limits', () => {
    const limits = { rpm: 600, tpm: null, concurrency: 5 };
    const change = { type: 'change-settings', settings: {}, limits, at } as const;
    const ofOrganization = (limits: object): OrganizationEvent => ({
      type: 'OrganizationLimitsChanged',
      data: { limits, changedAt: at },
    });
    const ofProject = (limits: object): OrganizationEvent => ({
      type: 'ProjectLimitsChanged',
      data: { project: 'default', limits, changedAt: at },
    });

    it('of its own: those that are given and differ, null taking one away', () => {
      given(created)
        .when(change)
        .yields(ofOrganization({ rpm: 600, concurrency: 5 }));
      const set = ofOrganization({ rpm: 600, concurrency: 5 });
      given(created, set).when(change).yields();
      given(created, set)
        .when({ ...change, limits: { rpm: null } })
        .yields(ofOrganization({ rpm: null }));
      given(created, set, ofOrganization({ rpm: null }))
        .when({ ...change, limits: { rpm: 600, concurrency: 6 } })
        .yields(ofOrganization({ rpm: 600, concurrency: 6 }));
    });

    it('beside settings, each of them only where it differs', () => {
      const settings = { immutableKeyNames: true };
      const changed: OrganizationEvent = { type: 'SettingsChanged', data: { settings, changedAt: at } };
      const both = { ...change, settings, limits: { tpm: 9 } };
      given(created)
        .when(both)
        .yields(changed, ofOrganization({ tpm: 9 }));
      given(created, changed)
        .when(both)
        .yields(ofOrganization({ tpm: 9 }));
      given(created, ofOrganization({ tpm: 9 }))
        .when(both)
        .yields(changed);
    });

    it('of a project, which keep to that project and go on when its workloads change', () => {
      const command = { type: 'change-project', project: 'default', limits: { rpm: 7 }, at } as const;
      const other: OrganizationEvent = { type: 'ProjectCreated', data: { project: 'other', createdAt: at } };
      given(created, project)
        .when(command)
        .yields(ofProject({ rpm: 7 }));
      given(created, project, ofProject({ rpm: 7 }), ensured)
        .when(command)
        .yields();
      given(created, project, other, ofProject({ rpm: 7 }))
        .when({ ...command, project: 'other' })
        .yields({ type: 'ProjectLimitsChanged', data: { project: 'other', limits: { rpm: 7 }, changedAt: at } });
      given(created, project, ofOrganization({ rpm: 7 }))
        .when(command)
        .yields(ofProject({ rpm: 7 }));
    });

    it('of no project and no organization that are not there', () => {
      const command = { type: 'change-project', project: 'constructor', limits: {}, at } as const;
      given(created, project).when(command).refuses('not_found');
      given().when(command).refuses('not_found');
      given().when(change).refuses('not_found');
    });
  });
});
