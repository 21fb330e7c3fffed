--- health.lua: :checkhealth gemma. Each problem comes with what to do about it.

local M = {}

local util = require('gemma.util')

local health = vim.health

local function check_library()
  health.start('gemma: native library')
  local engine = require('gemma.engine')
  local about, err = require('gemma.ffi').about()
  if not about then
    health.error(err --[[@as string]])
    return
  end
  health.ok(about.path)
  health.info(('version %s, ABI %d'):format(about.version, about.abi))
  health.info('CPU: ' .. about.cpu)
  if engine.state == 'error' then
    health.error(engine.reason or 'unknown error', 'See :Gemma log')
  end
end

--- What belongs to a model file: its sum, and room for another one.
---@param path string
local function check_files(path)
  local models = require('gemma.models')
  local sum, source = models.known_sum(path)
  if path == models.embedded() then
    health.info('SHA-256: none is kept of the model that comes with the plugin.')
  elseif sum then
    health.info(('SHA-256 (%s): %s. :Gemma verify checks it.'):format(source, sum))
  else
    health.info('SHA-256: none is known. :Gemma verify records it.')
  end
  local bad = path .. '.bad'
  if vim.uv.fs_stat(bad) then
    health.warn(bad .. ' is a download that went wrong', 'Delete it')
  end
  local dir = vim.fn.isdirectory(models.dir()) == 1 and models.dir() or vim.fs.dirname(path)
  local free = require('gemma.download').free(dir)
  health.info(
    ('%s in %s, %s free there'):format(
      util.count(#models.list(), 'model'),
      models.dir(),
      free and util.bytes(free) or '?'
    )
  )
end

--- Who has the model, when there are several Neovims.
local function check_owner()
  local engine = require('gemma.engine')
  local other = require('gemma.owner').other()
  local lend = package.loaded['gemma.lend']
  if engine.lender then
    health.ok(('the model is borrowed from pid %d'):format(engine.lender.pid))
  elseif other then
    local shared = require('gemma.config').get().shared
    health.info(('pid %d has a model in memory (shared is %s)'):format(other.pid, shared))
  elseif engine.is_loaded() then
    local n = lend and lend.count() or 0
    health.ok(
      ('this Neovim has the model; %d other%s it'):format(n, n == 1 and ' borrows' or 's borrow')
    )
  else
    health.info('no Neovim has a model in memory')
  end
end

--- What :Gemma install needs.
local function check_tools()
  if vim.fn.executable('curl') == 0 then
    health.warn('curl was not found; :Gemma install model needs it')
  end
  local argv, why = require('gemma.make').command(require('gemma.ffi').root())
  if not argv then
    health.warn((':Gemma install lib: %s'):format(why))
  end
end

local TESTING = 'self-test: running'

--- Writes the end of the self-test over its line, wherever the report is.
---@param text string
local function report_test(text)
  for _, buf in ipairs(vim.api.nvim_list_bufs()) do
    if vim.api.nvim_buf_is_loaded(buf) and vim.bo[buf].filetype == 'checkhealth' then
      for row, line in ipairs(vim.api.nvim_buf_get_lines(buf, 0, -1, false)) do
        local at = line:find(TESTING, 1, true)
        if at then
          local was = vim.bo[buf].modifiable
          vim.bo[buf].modifiable = true
          vim.api.nvim_buf_set_lines(buf, row - 1, row, false, { line:sub(1, at - 1) .. text })
          vim.bo[buf].modifiable = was
          vim.bo[buf].modified = false
        end
      end
    end
  end
end

--- One token from the model. The report does not wait; its line is rewritten when the token is
--- there.
local function self_test()
  local engine = require('gemma.engine')
  if not engine.is_loaded() then
    return health.info('self-test: the model is not loaded. :Gemma load, then :checkhealth gemma')
  elseif engine.busy() then
    return health.info('self-test: the model is busy, which is as good')
  end
  -- The cache of an open conversation stays what it is.
  local session, fork_from = require('gemma.chat.kept').task_session()
  local job, err = engine.generate({
    parts = {
      { kind = 'user' },
      { kind = 'text', data = 'Say yes.' },
      { kind = 'model' },
    },
    session = session,
    fork_from = fork_from,
    priority = 'ask',
    max_tokens = 1,
    on_done = function(info)
      -- Not by the clock: the checks of other plugins run meanwhile.
      local ms = info.prefill_ms + info.decode_ms
      report_test(('self-test: %s in %.0f ms'):format(util.count(info.n_generated, 'token'), ms))
    end,
    on_error = function(e)
      report_test('self-test failed: ' .. e.text)
    end,
  })
  if job then
    health.info(TESTING)
  else
    health.error('self-test: ' .. err)
  end
end

--- Where the model computes, and why not where it was wished to be.
local function check_device()
  local engine = require('gemma.engine')
  local wanted = engine.device or require('gemma.config').get().device
  local s = engine.is_loaded() and engine.numbers() or {}
  if not s.device then
    return health.info(('device: %s; :Gemma load shows what it comes to'):format(wanted))
  end
  local text = ('device: %s, computing on %s'):format(wanted, s.device)
  if (s.device_note or '') ~= '' then
    text = text .. '; ' .. s.device_note
  end
  if wanted:match('^vulkan') and not s.device:match('^vulkan') then
    health.warn(text, 'See :Gemma log; vulkaninfo --summary lists what Vulkan has')
  else
    health.ok(text)
  end
  if (s.devices or '') ~= '' then
    health.info('devices: ' .. s.devices)
  end
end

local function check_model()
  health.start('gemma: model')
  local engine = require('gemma.engine')
  local models = require('gemma.models')
  local path, err = models.find()
  check_tools()
  check_owner()
  if not path then
    health.error(err --[[@as string]])
    return
  end
  local stat = vim.uv.fs_stat(path)
  local size = stat and stat.size or 0
  health.ok(('%s (%s)'):format(path, util.bytes(size)))
  if path == models.embedded() then
    local fmt =
      'that is the toy that comes with the plugin; :Gemma install model fetches a real one (%s)'
    health.info(fmt:format(models.size_of_real()))
  end
  local free = vim.uv.get_free_memory()
  if not engine.is_loaded() and size > free then
    local fmt = 'free memory is %s; the model will push other things out'
    local advice = 'Close something, or take a smaller file'
    health.warn(fmt:format(util.bytes(free)), advice)
  end
  check_files(path)
  check_device()
  self_test()
end

local function check_media()
  health.start('gemma: pictures and recordings')
  local engine = require('gemma.engine')
  local tools = require('gemma.tools')
  local why = engine.media_reason()
  if engine.mmproj then
    health.ok('loaded: ' .. engine.mmproj)
  elseif why then
    health.warn(why)
  else
    local models = require('gemma.models')
    local model = models.find()
    health.ok('found: ' .. (model and models.find_mmproj(model) or '?'))
  end
  local ffi = require('gemma.ffi')
  local missing = ffi.media_missing()
  if missing then
    health.warn(missing, 'Without it PNG and WAV are read, nothing else')
  elseif not ffi.problem() then
    health.ok("FFmpeg's libraries: all kinds of pictures, sounds and films")
  end
  local env = tools.env()
  local conf = require('gemma.config').get().media
  local function report(what, kind, option)
    local found, err
    if kind == 'clipboard' then
      found = tools.usable(tools.clipboard, env)
      err = tools.missing(kind, env)
    else
      found, err = tools.choose(kind, option, env)
    end
    if #found == 0 then
      return health.warn(('%s: %s'):format(what, err), tools.advice(kind, env))
    end
    local names = vim.tbl_map(function(t)
      return t.name
    end, found)
    health.ok(('%s: %s'):format(what, table.concat(names, ', else ')))
  end
  report('clipboard', 'clipboard')
  report('screenshots', 'shot', conf.shot)
  report('voice', 'voice', conf.recorder)
  report('screen recordings', 'screen', conf.screen)
end

local function check_config()
  health.start('gemma: options')
  local problems = require('gemma.config').current_problems()
  for _, p in ipairs(problems) do
    health.error('vim.g.gemma: ' .. p, 'See :help gemma-options')
  end
  if #problems == 0 then
    health.ok('vim.g.gemma is valid')
  end
  health.info('log: ' .. require('gemma.log').path())
end

--- Plugins that draw ghost text of their own at the same place: Lua modules, and the global
--- variables of those that are not written in Lua.
local GHOSTS = { 'copilot', 'supermaven-nvim', 'neocodeium', 'codeium', 'minuet', 'llm', 'tabnine' }
-- stylua: ignore
local GHOST_VARS = { loaded_copilot = 'copilot.vim', loaded_codeium = 'windsurf.vim',
  loaded_llama = 'llama.vim', tabby_loaded = 'vim-tabby' }

--- Menus that can show their first entry as ghost text, and whether they do.
local MENU_GHOSTS = {
  ['blink.cmp'] = function()
    return package.loaded['blink.cmp.config'].completion.ghost_text.enabled
  end,
  ['nvim-cmp'] = function()
    return package.loaded['cmp.config'].get().experimental.ghost_text
  end,
}

--- Plugins that show suggestions beside ours.
---@return string[]
function M.ghosts()
  local out = {}
  for _, name in ipairs(GHOSTS) do
    if package.loaded[name] then
      out[#out + 1] = name
    end
  end
  for var, name in vim.spairs(GHOST_VARS) do
    if vim.g[var] then
      out[#out + 1] = name
    end
  end
  for name, shows in vim.spairs(MENU_GHOSTS) do
    local ok, yes = pcall(shows)
    if ok and yes then
      out[#out + 1] = 'ghost text of ' .. name
    end
  end
  return out
end

local function check_keys()
  health.start('gemma: keys')
  local keymap = require('gemma.keymap')
  for _, k in ipairs(keymap.keys) do
    local owner = keymap.owner(k.key, vim.api.nvim_get_current_buf())
    if vim.fn.hasmapto(k.plug, 'i') == 1 then
      health.ok(('%s is mapped by you'):format(k.plug))
    elseif owner then
      local advice = ("vim.keymap.set('i', '<your key>', '%s')"):format(k.plug)
      health.warn(('%s is taken: %s'):format(k.key, owner), advice)
    else
      health.ok(('%s: %s'):format(k.key, k.desc:gsub('^Gemma: ', '')))
    end
  end
  local tab = keymap.owner('<Tab>')
  health.info(('<Tab> is never mapped by this plugin; it belongs to %s'):format(tab or 'nobody'))
  for _, name in ipairs(M.ghosts()) do
    health.warn(name .. ' is loaded too', 'Two plugins with ghost text draw over each other')
  end
end

--- What a prompt holds beside the text, for the file that was left for this report.
local function check_context()
  health.start('gemma: what the model reads')
  if require('gemma.context').budget().project_tokens == 0 then
    return health.info('nothing beyond the buffer (context.project_tokens)')
  end
  local stats = require('gemma.context.project').stats()
  local chunks, edits = util.count(stats.chunks, 'piece'), util.count(stats.edits, 'edit')
  health.info(('kept for prompts: %s of other files, %s'):format(chunks, edits))
  local buf = vim.fn.bufnr('#')
  if buf < 1 or not vim.api.nvim_buf_is_loaded(buf) then
    return
  end
  local name = vim.api.nvim_buf_get_name(buf)
  if require('gemma.exclude').buffer_is_excluded(buf) then
    return health.info(('%s is excluded (exclude list)'):format(vim.fs.basename(name)))
  end
  local text, ask = require('gemma.context.notes').get(name)
  if text then
    health.ok('notes: .gemma.md is trusted')
  elseif ask then
    health.warn('notes: ' .. ask .. ' is not trusted, so it is not used', 'Open it and run :trust')
  end
  local clients = vim.lsp.get_clients({ bufnr = buf, method = 'textDocument/definition' })
  local server = clients[1] and clients[1].name or 'none'
  health.info(('language server for declarations: %s'):format(server))
end

function M.check()
  health.start('gemma: Neovim')
  if not jit then
    health.error('this Neovim was built without LuaJIT; gemma.nvim needs its FFI')
    return
  end
  health.ok(('Neovim %s, %s'):format(tostring(vim.version()), jit.version))
  if not jit.status() then
    health.warn('the JIT compiler is off, so each key costs more', 'Find who calls jit.off()')
  end
  if vim.o.encoding ~= 'utf-8' then
    health.error("'encoding' is " .. vim.o.encoding, 'Set it to utf-8')
  end
  if require('gemma.sentinel').tripped() then
    health.warn('Neovim ended during GPU work last time', ':Gemma enable, or :Gemma device cpu')
  end
  check_library()
  check_model()
  check_media()
  check_config()
  check_keys()
  check_context()
end

return M
