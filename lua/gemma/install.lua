--- install.lua: :Gemma install, verify and model: what is missing comes, what is there is checked.
---
--- The only code of the plugin that uses the network, through curl (download.lua), and only when the
--- user says so and has chosen a file. Builds the library with the user's own compiler.

local child = require('gemma.child')
local engine = require('gemma.engine')
local ffi = require('gemma.ffi')
local lock = require('gemma.lock')
local log = require('gemma.log')
local make = require('gemma.make')
local models = require('gemma.models')
local notify = require('gemma.notify')
local util = require('gemma.util')

local M = {}

local current ---@type gemma.Download? what is being fetched
local building ---@type vim.SystemObj? make
local checking ---@type gemma.Job? what is being verified
local differs = {} ---@type table<string, true> files that :Gemma verify found to be wrong

--- The last word about a task. Before 0.12 its progress was a line in the message area; a second one
--- below it would ask for a key.
---@param level 'info'|'warn'|'error'
---@param msg string
local function conclude(level, msg)
  vim.cmd.redraw()
  notify[level](msg)
end

--- Is a download, a build or a check under way?
---@return boolean
function M.busy()
  return current ~= nil or building ~= nil or checking ~= nil
end

--- How far the download is, 0..1.
---@return number?
function M.fraction()
  return current and current.progress.percent and current.progress.percent / 100
end

--- Ends a download or a check; what has come is kept.
function M.stop()
  if current then
    current:stop()
  end
  if checking then
    checking:cancel()
  end
end

-- ---- the library ---------------------------------------------------------------------------

--- Did it help?
---@param root string
local function built(root)
  local why = ffi.problem()
  if why then
    return conclude('warn', why)
  end
  engine.forgive()
  local again = engine.version() and ' Restart Neovim to use it.' or ''
  conclude('info', ('the library is built in %s.%s'):format(vim.fs.joinpath(root, 'build'), again))
end

--- Builds the library where the plugin is, in the background.
function M.build_library()
  local root = ffi.root()
  local argv, err = make.command(root)
  if not argv then
    return notify.warn(err --[[@as string]])
  elseif building then
    return notify.info('the library is being built already.')
  end
  -- Two makes in one folder write the same files. Where no lock can be made, make says why itself.
  local mark = vim.fs.joinpath(root, 'build', 'make.lock')
  local _, holder = lock.take(mark, {})
  if holder then
    return notify.info(('%s is building the library already.'):format(lock.who(holder)))
  end
  lock.keep(mark)
  local progress = require('gemma.progress').start('build', 'starting the compiler')
  local tail = make.tail()
  local function on_output(_, data)
    progress:report(nil, vim.trim(tail.add(data) or ''))
  end
  local opts = { text = true, stdout = on_output, stderr = on_output, env = make.env }
  building = child.start(argv, opts, function(res)
    building = nil
    lock.release(mark)
    if res.code == 0 and res.signal == 0 then
      progress:done('built')
      return built(root)
    end
    log.error('%s', tail.text())
    progress:fail('failed')
    local cause = make.cause(tail.text(), res.signal)
    conclude('error', ('the library was not built: %s See :Gemma log.'):format(cause))
  end)
end

-- ---- models --------------------------------------------------------------------------------

---@param file gemma.catalog.File
---@return string
local function url_of(file)
  local base = require('gemma.config').get().install.url:gsub('/+$', '')
  return ('%s/%s/resolve/%s/%s'):format(base, file.repo, file.revision or 'main', file.file)
end

--- Short enough for one line of a terminal, with the longest name of the list.
local INSTALLED = {
  published = '%s installed, checksum right.',
  host = "%s installed, checksum as in the host's headers.",
  first = '%s installed; no checksum is published, so this one is recorded.',
}

--- From now on it is this model, at once where another one is at work.
---@param path string
local function switch_to(path)
  models.choose(path)
  engine.forgive()
  if engine.is_loaded() or engine.state == 'loading' then
    engine.unload(true)
    require('gemma.ready').load()
  end
end

--- Is it one that can be loaded, and not what belongs to another file?
---@param path string
---@return boolean
local function is_model(path)
  return vim.iter(models.list()):any(function(file)
    return file.path == path
  end)
end

--- What becomes of a file that is no model.
---@param path string
---@return string
local function use_of(path)
  if not vim.fs.basename(path):find('^mmproj') then
    return ' It is no model by itself.'
  end
  local model = engine.model or models.find()
  if engine.lender or not model or models.find_mmproj(model) ~= path then
    return ' For pictures and sounds put its model beside it, or set mmproj_path.'
  elseif engine.is_loaded() or engine.state == 'loading' then
    return ' For pictures and sounds run :Gemma unload and ask again.'
  end
  return ' The next load takes it for pictures and sounds.'
end

--- The file is in place.
---@param path string
---@param info gemma.DownloadInfo
local function installed(path, info)
  differs[path] = nil
  local msg = INSTALLED[info.source]:format(vim.fs.basename(path))
  -- The toy stood in until there is a better one.
  local toy = engine.model and engine.model == models.embedded() and not engine.lender
  if not is_model(path) then
    engine.forgive() -- it may have been a missing part
    msg = msg .. use_of(path)
  elseif toy or not (engine.is_loaded() or require('gemma.config').get().model_path) then
    switch_to(path)
  else
    engine.forgive()
    msg = msg .. ' :Gemma model switches to it.'
  end
  conclude('info', msg)
end

---@return boolean
local function fetching()
  if current then
    notify.info('a download runs already. :Gemma stop ends it.')
  end
  return current ~= nil
end

--- Fetches files one after the other; the last one is what was asked for.
---@param list { url: string, path: string, bytes: integer?, sha256: string? }[]
---@param i integer
local function fetch(list, i)
  if fetching() then
    return -- another list was chosen from, while this one was still there
  end
  local handed = vim.tbl_extend('error', list[i], {
    on_done = function(err, info)
      current = nil
      engine.installing(false)
      if err then
        conclude('error', err)
      elseif list[i + 1] then
        fetch(list, i + 1)
      else
        installed(list[i].path, info)
      end
    end,
  })
  engine.installing(true)
  current = require('gemma.download').start(handed)
end

--- Fetches a model and what it needs for pictures and sounds, whichever is not there.
---@param model gemma.catalog.Model
local function fetch_model(model)
  local list = {}
  local function add(file, path)
    list[#list + 1] = { url = url_of(file), path = path, bytes = file.bytes, sha256 = file.sha256 }
  end
  -- The small file first: what is wrong with the host or the disk shows early.
  local mmproj = model.mmproj
  local mmproj_path = vim.fs.joinpath(models.dir(), 'mmproj-' .. model.file)
  local stat = mmproj and vim.uv.fs_stat(mmproj_path)
  if mmproj and not (stat and stat.size == mmproj.bytes) then
    add(mmproj, mmproj_path)
  end
  -- A model that is whole is not fetched again when only its mmproj file is missing.
  local path = vim.fs.joinpath(models.dir(), model.file)
  stat = vim.uv.fs_stat(path)
  local whole = stat and stat.size == model.bytes and models.known_sum(path) == model.sha256
  if not whole or differs[path] then
    add(model, path)
  end
  if #list == 0 then
    return notify.info(
      ('%s is there already; `:Gemma verify %s` checks it.'):format(model.file, model.file)
    )
  end
  fetch(list, 1)
end

--- A file the catalogue does not know: whatever is at that address.
---@param url string
local function fetch_url(url)
  local name = url:gsub('[?#].*$', ''):match('([^/]+%.gguf)$')
  if not name or name:find('[%c%%\\:]') or name:sub(1, 1) == '.' then
    return notify.warn('the address of a model ends in its name, NAME.gguf.')
  end
  local path = vim.fs.joinpath(models.dir(), name)
  fetch({ { url = url, path = path } }, 1)
end

---@param model gemma.catalog.Model
---@return string
local function describe(model)
  local bytes = model.bytes + (model.mmproj and model.mmproj.bytes or 0)
  local notes = { model.note }
  if vim.uv.fs_stat(vim.fs.joinpath(models.dir(), model.file)) then
    notes[#notes + 1] = 'is there'
  end
  if model.bytes > vim.uv.get_total_memory() then
    notes[#notes + 1] = 'too big here'
  end
  return ('%-34s %7s  %s'):format(model.file, util.bytes(bytes), table.concat(notes, '; '))
end

--- Asks which one, or takes what is named: a file of the list or an address.
---@param which string?
function M.model(which)
  if fetching() then
    return
  end
  local why = ffi.problem()
  if why and not engine.lender then
    -- Without it a file cannot be checked.
    return notify.warn(why)
  end
  if which and which:match('^https?://') then
    return fetch_url(which)
  end
  local catalog = require('gemma.catalog')
  for _, model in ipairs(catalog) do
    if model.file == which then
      return fetch_model(model)
    end
  end
  if which then
    return notify.warn(('%s is not in the list. Give its address (https://...).'):format(which))
  end
  vim.ui.select(catalog, {
    prompt = ('Model to download from %s:'):format(require('gemma.config').get().install.url),
    kind = 'gemma_model',
    format_item = describe,
  }, function(model)
    vim.cmd.redraw() -- or what comes next would scroll below the list and ask for a key
    if model then
      fetch_model(model)
    end
  end)
end

-- ---- several models ------------------------------------------------------------------------

---@param file gemma.ModelFile
local function use(file)
  if engine.chosen_elsewhere() then
    return notify.warn(engine.chosen_elsewhere())
  end
  switch_to(file.path)
  notify.info(('the model is %s from now on.'):format(file.name))
end

--- Names of the models that are there.
---@return string[]
function M.names()
  return vim.tbl_map(function(file)
    return file.name
  end, models.list())
end

--- Takes another model of the folder, or asks which.
---@param name string?
function M.choose(name)
  local files = models.list()
  local now = engine.model or models.find()
  if name then
    for _, file in ipairs(files) do
      if file.name == name or file.name == name .. '.gguf' then
        return use(file)
      end
    end
    return notify.warn(('no model %s in %s.'):format(name, models.dir()))
  elseif #files == 0 then
    return notify.warn(select(2, models.find()) or ('no models in %s.'):format(models.dir()))
  end
  vim.ui.select(files, {
    prompt = 'Model:',
    kind = 'gemma_model',
    format_item = function(file)
      return ('%s %-40s %8s'):format(
        file.path == now and '*' or ' ',
        file.name,
        util.bytes(file.bytes)
      )
    end,
  }, function(file)
    vim.cmd.redraw()
    if file then
      use(file)
    end
  end)
end

-- ---- verify --------------------------------------------------------------------------------

---@param path string
---@param hex string
local function judge(path, hex)
  local name = vim.fs.basename(path)
  local want, source = models.known_sum(path)
  if not want then
    -- Not beside the embedded one: an update of the plugin brings another.
    local own = path == models.embedded()
    local kept = own and 'it comes with the plugin'
      or models.record_sum(path, hex) and 'recorded'
      or 'not recorded'
    conclude('info', ('no sum is known for %s: %s...; %s.'):format(name, hex:sub(1, 12), kept))
  elseif want == hex then
    conclude('info', ('%s is whole (as %s).'):format(name, source))
  else
    differs[path] = true
    local fmt = 'checksum differs for %s: %s..., %s %s.... Run :Gemma install model.'
    conclude('error', fmt:format(name, hex:sub(1, 12), source, want:sub(1, 12)))
  end
end

---@param paths string[]
---@param i integer
local function verify(paths, i)
  local path = paths[i]
  if not path then
    return
  end
  local name = vim.fs.basename(path)
  local progress = require('gemma.progress').start('verify', name)
  local job, err = engine.hash(path, {
    on_progress = function(done, total)
      progress:report(total > 0 and done / total * 100 or nil)
    end,
    on_done = function(hex)
      checking = nil
      progress:done(name)
      judge(path, hex)
      verify(paths, i + 1)
    end,
    on_error = function(e)
      checking = nil
      if e.name == 'ECANCELLED' then
        return progress:cancel()
      end
      progress:fail(e.text)
      conclude('error', e.text)
    end,
  })
  if not job then
    progress:fail(err --[[@as string]])
    return notify.warn(err --[[@as string]])
  end
  checking = job
end

--- Compares the SHA-256 of a model (the one in use, or a name of the folder) with what it should be.
---@param name string?
function M.verify(name)
  if checking then
    return notify.info('a model is being checked already.')
  end
  local path, err = models.find()
  path = engine.model or path
  for _, file in ipairs(models.list()) do
    if name and file.name == name then
      return verify(file.parts, 1)
    elseif not name and file.path == path then
      return verify(file.parts, 1)
    end
  end
  if name then
    return notify.warn(('no model %s in %s.'):format(name, models.dir()))
  elseif not path then
    return notify.warn(err --[[@as string]])
  end
  verify({ path }, 1)
end

-- ---- one word for all ----------------------------------------------------------------------

--- `:Gemma install`: the library when it is missing, otherwise a model.
---@param what 'lib'|'model'|nil
---@param which string?
function M.run(what, which)
  if what == 'lib' then
    M.build_library()
  elseif what == 'model' then
    M.model(which)
  elseif what then
    notify.warn(('unknown argument %s. Try :Gemma install lib or model.'):format(what))
  elseif not engine.lender and ffi.problem() then
    M.build_library()
  else
    M.model()
  end
end

return M
